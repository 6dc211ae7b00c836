// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rl_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/file.h"
#include "core/base/support.h"
#include "core/rl/answer_log.h"
#include "core/rl/support.h"

namespace klab {
namespace {

using torch::Tensor;

std::vector<Batch> supervised_batches() {
  return {{torch::tensor({{0, 1, 2}}, torch::kLong), torch::tensor({{-100, -100, 3}}, torch::kLong)}};
}

/// A run on prompts of one token; the answer is one token, and its reward is that of the run.
struct TinyRl {
  TinyRl() {
    train.steps = 12;
    train.stop_at = 1e6;
    train.lr = 5e-3;
    train.schedule = "constant";
    train.warmup_ratio = 0;
    train.eval_every = 4;
    train.checkpoint_every = 4;
    train.batch = 8;
    rl.prompts = 4;
    rl.samples = 8;
    rl.max_new_tokens = 1;
  }

  RlTrainer trainer(const std::string& folder = "", bool resume = false) const {
    RlData data;
    data.prompt = [](size_t, int64_t index) { return Prompt{{index % 3}, {3}}; };
    data.variant_weights = std::vector<double>(variants, 1);
    data.validation = some_prompts(4);
    data.ptx = [](int64_t index) {
      return Batch{torch::full({1, 2}, index % 6, torch::kLong), torch::tensor({{-100, 2}}, torch::kLong)};
    };
    if (!rl.ptx_tasks.empty()) data.supervised = supervised_batches();
    data.reward = reward;
    data.token_name = word;
    data.stop = {kEnd};
    return {small_policy("kda"), train, rl, data, {folder}, {}, resume, torch::kCPU};
  }

  TrainConfig train;
  RlConfig rl;
  size_t variants = 1;
  RewardFunction reward = [](const Attempt& attempt) { return attempt.answer[0] == 3 ? 1.0 : 0.0; };
};

Next go_on(const RlStatus&, bool) { return Next::step; }

double probability_of(RlTrainer& trainer, int64_t prompt, int64_t token) {
  const torch::NoGradGuard no_grad;
  return trainer.model()->forward(torch::tensor({{prompt}})).flatten().softmax(0)[token].item<double>();
}

TEST(RlTrainer, SolvesABanditWithEitherLoss) {
  for (const std::string loss : {"mirror_descent", "grpo"}) {
    TinyRl run;
    run.train.steps = 60;
    run.rl.loss = loss;
    RlTrainer trainer = run.trainer();
    EXPECT_LT(probability_of(trainer, 0, 3), 0.5);
    EXPECT_EQ(trainer.run(go_on), Outcome::steps_done);
    for (int64_t prompt = 0; prompt < 3; ++prompt) EXPECT_GT(probability_of(trainer, prompt, 3), 0.9) << loss;
    EXPECT_GT(trainer.status().iteration.reward, 0.8);
  }
}

// Among graded rewards it must find the largest, not the most common.
TEST(RlTrainer, PrefersTheLargestReward) {
  TinyRl run;
  run.train.steps = 100;
  run.reward = [](const Attempt& attempt) { return std::array{0.4, 0.4, 0.4, 1.0, 0.4, 0.0, 0.0}[attempt.answer[0]]; };
  RlTrainer trainer = run.trainer();
  trainer.run(go_on);
  for (int64_t prompt = 0; prompt < 3; ++prompt) EXPECT_GT(probability_of(trainer, prompt, 3), 0.8);
}

TEST(RlTrainer, ARewardThatIsUpsideDownIsLearntAsIs) {
  TinyRl run;
  run.train.steps = 60;
  run.reward = [](const Attempt& attempt) { return attempt.answer[0] == 3 ? 0.0 : 1.0; };
  RlTrainer trainer = run.trainer();
  trainer.run(go_on);
  EXPECT_LT(probability_of(trainer, 0, 3), 0.02);
}

std::vector<Tensor> copies(RlTrainer& trainer) {
  std::vector<Tensor> all;
  for (const auto& parameter : trainer.model()->parameters()) all.push_back(parameter.detach().clone());
  return all;
}

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Tensor& x, const Tensor& y) { return torch::equal(x, y); });
}

TEST(RlTrainer, GroupsOfEqualRewardsChangeNothingAndAreCounted) {
  for (const double reward : {0.0, 0.5, 1.0}) {
    TinyRl run;
    run.reward = [=](const Attempt&) { return reward; };
    RlTrainer trainer = run.trainer();
    const std::vector<Tensor> before = copies(trainer);
    trainer.run([&](const RlStatus& status, bool) {
      if (status.train.step == 0) return Next::step;
      EXPECT_EQ(status.iteration.all_right, reward == 1 ? 1 : 0);
      EXPECT_EQ(status.iteration.all_equal, reward == 1 ? 0 : 1);
      EXPECT_EQ(status.iteration.updates, 0);
      EXPECT_EQ(status.iteration.kl, 0);
      EXPECT_TRUE(std::isfinite(status.iteration.entropy));
      return Next::step;
    });
    EXPECT_TRUE(same_bits(before, copies(trainer)));
    EXPECT_EQ(trainer.status().iterations_without_signal, 12);
  }
}

// With a single update of a policy that has sampled for itself, weights and ratios are 1 up to rounding.
TEST(RlTrainer, ReportsWhatAnIterationDid) {
  TinyRl run;
  run.train.steps = 1;
  run.rl.prompts = 3;
  RlTrainer trainer = run.trainer();
  trainer.run(go_on);
  const IterationReport& report = trainer.status().iteration;
  EXPECT_EQ(report.tokens, 24);
  EXPECT_EQ(report.length, 1);
  EXPECT_NEAR(report.importance.mean, 1, 1e-4);
  EXPECT_NEAR(report.importance.effective_sample_size, 1, 1e-6);
  EXPECT_GT(report.kl, 0);
  EXPECT_LT(report.kl, 0.1);
  EXPECT_GT(report.entropy, 0.1);
  EXPECT_GT(report.grad_norm, 0);
  EXPECT_EQ(report.updates, 1);
  EXPECT_EQ(report.kl_weight, run.rl.kl_weight);
  EXPECT_NEAR(report.accuracy, report.reward, 1e-12);
  EXPECT_GT(report.rollout_seconds, 0);
  EXPECT_GT(report.update_seconds, 0);
}

// The gradient of a minibatch is the same in one part and in several.
TEST(RlTrainer, AccumulatesTheGradientOfTheWholeMinibatch) {
  const auto report_of = [](int64_t parts) {
    TinyRl run;
    run.train.steps = 1;
    run.train.accumulate = parts;
    RlTrainer trainer = run.trainer();
    trainer.run(go_on);
    return trainer.status().iteration;
  };
  const IterationReport whole = report_of(1), parts = report_of(8);
  EXPECT_GT(whole.grad_norm, 0.01);
  EXPECT_NEAR(parts.grad_norm, whole.grad_norm, 1e-4 * whole.grad_norm);
  EXPECT_NEAR(parts.loss, whole.loss, 1e-5 * whole.loss);
}

std::vector<std::string> timeless_rows(const std::string& folder) {
  std::vector<std::string> rows;
  const CsvTable table = read_csv(RunFolder{folder}.metrics());
  for (const auto& row : table.rows) {
    std::string text;
    for (size_t i = 0; i < table.column("tokens_per_second"); ++i) text += row[i] + ",";
    rows.push_back(text);
  }
  return rows;
}

/// With everything that has a state of its own.
TinyRl eventful() {
  TinyRl run;
  run.variants = 2;
  run.rl.minibatches = 2;
  run.rl.kl_target = 0.01;
  run.rl.most_minibatches = 4;
  run.rl.curriculum = "prioritised";
  run.rl.ptx_tasks = {{{"length", 2}}};
  run.rl.ptx_weight = 0.1;
  run.rl.reset_optimizer = false;
  return run;
}

TEST(RlTrainer, ResumesToTheSameBits) {
  const TinyRl run = eventful();
  const Folder whole, parts;
  RlTrainer once = run.trainer(whole.path());
  once.run(go_on);
  for (const int64_t stop : {3, 7}) {
    RlTrainer some = run.trainer(parts.path(), stop > 3);
    some.run([&](const RlStatus& status, bool) { return status.train.step == stop ? Next::stop : Next::step; });
  }
  // As a killed process leaves it: rows and answers of iterations after the checkpoint, and half a row.
  write_file(RunFolder{parts.path()}.metrics(), read_file(RunFolder{parts.path()}.metrics()) + "8,tra");
  append_answers(parts / "answers.jsonl", {{8, "train", "a", "b", "c", 1}});
  RlTrainer rest = run.trainer(parts.path(), /*resume=*/true);
  EXPECT_EQ(rest.status().train.step, 7);
  rest.run(go_on);
  EXPECT_TRUE(same_bits(copies(once), copies(rest)));
  EXPECT_EQ(timeless_rows(whole.path()), timeless_rows(parts.path()));
  EXPECT_EQ(read_file(whole / "answers.jsonl"), read_file(parts / "answers.jsonl"));
  EXPECT_EQ(once.status().train.best_step, rest.status().train.best_step);
}

TEST(RlTrainer, StartsAgainWithoutACheckpoint) {
  const TinyRl run = eventful();
  const Folder whole, parts;
  RlTrainer once = run.trainer(whole.path());
  once.run(go_on);
  run.trainer(parts.path()).run([](const RlStatus&, bool) { return Next::stop; });  // after the evaluation of step 0
  std::filesystem::remove(RunFolder{parts.path()}.last());
  RlTrainer again = run.trainer(parts.path(), /*resume=*/true);
  again.run(go_on);
  EXPECT_EQ(timeless_rows(whole.path()), timeless_rows(parts.path()));
  EXPECT_EQ(read_file(whole / "answers.jsonl"), read_file(parts / "answers.jsonl"));
}

// Against a forward pass of every prompt with its reference.
TEST(RlTrainer, EvaluatesGreedyAnswersAndTheReferences) {
  TinyRl run;
  RlTrainer trainer = run.trainer();
  const std::vector<Prompt> prompts = some_prompts(5);
  const RlEvaluation found = trainer.evaluate(prompts);
  double loss = 0, reward = 0;
  int64_t right = 0;
  const torch::NoGradGuard no_grad;
  for (const Prompt& prompt : prompts) {
    std::vector<int64_t> tokens = prompt.tokens;
    for (size_t i = 0; i < prompt.reference.size(); ++i) {
      const Tensor logits = trainer.model()->forward(torch::tensor(tokens, torch::kLong).unsqueeze(0))[0][-1];
      loss -= logits.log_softmax(0)[prompt.reference[i]].item<double>();
      right += logits.argmax().item<int64_t>() == prompt.reference[i];
      if (i == 0) reward += logits.argmax().item<int64_t>() == 3;
      tokens.push_back(prompt.reference[i]);
    }
  }
  EXPECT_EQ(found.score.targets, 10);
  EXPECT_EQ(found.score.targets_right, right);
  EXPECT_NEAR(found.score.loss_sum, loss, 1e-3);
  EXPECT_EQ(found.score.sequences, 5);
  EXPECT_NEAR(found.reward, reward / 5, 1e-12);
  EXPECT_NEAR(found.score.acc_seq(), reward / 5, 1e-12);
  EXPECT_EQ(found.length, 1);
}

TEST(RlTrainer, KeepsTheBestPolicyAndTestsBoth) {
  TinyRl run;
  run.train.steps = 16;
  const Folder folder;
  RlTrainer trainer = run.trainer(folder.path());
  trainer.run(go_on);
  const std::vector<Tensor> last = copies(trainer);
  trainer.test(some_prompts(4));
  EXPECT_TRUE(same_bits(last, copies(trainer)));
  const CsvTable table = read_csv(RunFolder{folder.path()}.metrics());
  std::map<std::string, int> rows;
  for (const auto& row : table.rows) ++rows[row[table.column("split")]];
  EXPECT_EQ(rows["train"], 16);
  EXPECT_EQ(rows["validation"], 5);
  EXPECT_EQ(rows["test"], trainer.status().train.best_step == 16 ? 1 : 2);
  for (const char* column : {"step", "split", "reward", "accuracy", "kl", "entropy"}) EXPECT_TRUE(table.has(column));
  const std::vector<LoggedAnswer> answers = read_answers(folder / "answers.jsonl");
  EXPECT_EQ(answers.size(), 4u * (32 + 4) + 4);
  EXPECT_EQ(answers.front().prompt.substr(0, 1), "w");
}

TEST(RlTrainer, RefusesWhatItCannotDo) {
  TinyRl run;
  run.rl.max_prompt_tokens = 2;
  RlTrainer trainer = run.trainer();
  trainer.run([](const RlStatus&, bool) { return Next::stop; });
  const auto refused = [](const std::string& words, const std::function<void(TinyRl&)>& change) {
    TinyRl changed;
    change(changed);
    EXPECT_CONTAINS(message_of<UsageError>([&] { changed.trainer(); }), words);
  };
  refused("train.dtype = bfloat16", [](TinyRl& tiny) { tiny.train.dtype = "bfloat16"; });
  refused("train.ema", [](TinyRl& tiny) { tiny.train.ema = 0.9; });
  refused("train.patience", [](TinyRl& tiny) { tiny.train.patience = 3; });
  refused("train.phases", [](TinyRl& tiny) { tiny.train.phases = {{{"steps", 1}}}; });
}

TEST(RlTrainer, AnEndlessPromptIsRefusedWithItsLength) {
  TinyRl run;
  run.rl.max_prompt_tokens = 1;
  RlTrainer fits = run.trainer();
  fits.run([](const RlStatus&, bool) { return Next::stop; });
  RlData data;
  data.prompt = [](size_t, int64_t) { return Prompt{{1, 2, 3}, {3}}; };
  data.variant_weights = {1};
  data.validation = some_prompts(1);
  data.reward = run.reward;
  data.token_name = word;
  RlTrainer longer(small_policy("kda"), run.train, run.rl, data, {}, {}, false, torch::kCPU);
  EXPECT_CONTAINS(message_of<Error>([&] { longer.run(go_on); }), "has 3 tokens, more than rl.max_prompt_tokens = 1");
}

TEST(RlTrainer, StopsWhenThePolicyIsNoLongerFinite) {
  TinyRl run;
  const Folder folder;
  RlTrainer trainer = run.trainer(folder.path());
  trainer.run([](const RlStatus& status, bool) { return status.train.step == 4 ? Next::stop : Next::step; });
  const torch::NoGradGuard no_grad;
  trainer.model()->parameters()[0].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_CONTAINS(message_of<Error>([&] { trainer.run(go_on); }), "finite");
}

TEST(AnswerLog, IsReadBackAndCutAtAStep) {
  const Folder folder;
  const std::string path = folder / "answers.jsonl";
  EXPECT_TRUE(read_answers(path).empty());
  keep_answers_until(path, 3);
  append_answers(path, {{1, "train", "a \"b\"", "c", "d", 0.5}, {2, "validation", "e", "f", "g", 1}});
  append_answers(path, {{3, "train", "h", "i", "j", 0}});
  keep_answers_until(path, 2);
  const std::vector<LoggedAnswer> found = read_answers(path);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].prompt, "a \"b\"");
  EXPECT_EQ(found[0].reward, 0.5);
  EXPECT_EQ(found[1].split, "validation");
  write_file(path, read_file(path) + "{\"step\": 3");
  EXPECT_EQ(read_answers(path).size(), 2u) << "an incomplete last line";
  write_file(path, read_file(path) + "}\n");
  EXPECT_CONTAINS(message_of<Error>([&] { read_answers(path); }), "line 3");
}

}  // namespace
}  // namespace klab

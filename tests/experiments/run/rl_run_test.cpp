// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/rl_run.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/support.h"
#include "core/rl/answer_log.h"
#include "experiments/run/support.h"

namespace klab {
namespace {

RunConfig made_for(const std::string& task, const std::vector<Assignment>& more) {
  std::vector<Assignment> all{{"task.name", task, ""}, {"task.length", 16, ""},     {"model.width", 16, ""},
                              {"model.heads", 1, ""},  {"model.head_dim", 16, ""},  {"train.steps", 3, ""},
                              {"train.batch", 8, ""},  {"train.eval_every", 2, ""}, {"train.eval_examples", 12, ""},
                              {"rl.prompts", 2, ""},   {"rl.samples", 2, ""},       {"rl.max_new_tokens", 6, ""}};
  all.insert(all.end(), more.begin(), more.end());
  return make_run_config(all);
}

RunConfig made(std::vector<Assignment> more = {}) {
  more.insert(more.begin(), {{"task.question.smallest", 2, ""}, {"task.question.largest", 4, ""}});
  return made_for("question", more);
}

TEST(RlRun, AConfigWithKeysOfReinforcementLearningIsOne) {
  const RunConfig config = made();
  ASSERT_TRUE(config.rl.has_value());
  const std::string text = to_yaml(config);
  EXPECT_CONTAINS(text, "rl:\n");
  EXPECT_CONTAINS(text, "reward:\n  name: exact");
  const RunConfig supervised = make_run_config({{"task.name", "question", ""}, {"task.length", 16, ""}});
  EXPECT_FALSE(supervised.rl.has_value());
  EXPECT_EQ(to_yaml(supervised).find("rl:"), std::string::npos) << "their hashes do not change";
  EXPECT_TRUE(make_run_config({{"reward.name", "prefix", ""}}).rl.has_value());
  EXPECT_CONTAINS(message_of<UsageError>([] { made({{"rl.sample", 3, ""}}); }), "rl.samples");
  EXPECT_CONTAINS(message_of<UsageError>([] { made({{"reward.name", "exakt", ""}}); }), "exact");
  EXPECT_CONTAINS(message_of<UsageError>([] { made({{"train.ema", 0.9, ""}}); }), "reinforcement learning");
}

TEST(RlRun, RunsToItsEndAndIsTested) {
  const Folder folder;
  const RunFolder run = begun(folder / "run", made({{"test.also", "[{question.kind: palindrome}]", ""},
                                                    {"rl.ptx_tasks", "[{question.largest: 3}]", ""},
                                                    {"rl.ptx_weight", 0.1, ""}}));
  int64_t iterations = 0;
  RunOptions options;
  options.watch_rl = [&](const RlStatus& status, bool) { iterations = status.train.step; };
  const RunRecord record = train_run(run, options, watch_nothing);
  EXPECT_EQ(record.state, RunState::finished) << record.reason;
  EXPECT_EQ(iterations, 3);
  EXPECT_EQ(record.step, 3);
  EXPECT_TRUE(record.tested);
  EXPECT_GT(record.parameters, 0);
  for (const std::string& file :
       {run.metrics(), run.last(), run.best(), run.answers(), run.path + "/evaluations.csv"}) {
    EXPECT_TRUE(std::filesystem::exists(file)) << file;
  }
  const std::vector<LoggedAnswer> answers = read_answers(run.answers());
  ASSERT_FALSE(answers.empty());
  EXPECT_CONTAINS(answers.front().prompt, "=");
  EXPECT_CONTAINS(answers.front().reference, "<end>");
}

// Held-out prompts are of the mixture, and none of them is a training prompt.
TEST(RlRun, PromptsOfTheSplitsAreDisjointAndMixed) {
  const RunConfig config = made({{"mixture.tasks", "[{question.kind: palindrome, weight: 3}]", ""}});
  std::set<std::vector<int64_t>> seen;
  std::map<int64_t, int> variants;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    std::set<std::vector<int64_t>> here;
    for (const Prompt& prompt : held_out_prompts(config, 200, split)) {
      here.insert(prompt.tokens);
      ++variants[prompt.variant];
      EXPECT_FALSE(prompt.reference.empty());
    }
    for (const std::vector<int64_t>& tokens : here) EXPECT_FALSE(seen.contains(tokens));
    seen.insert(here.begin(), here.end());
  }
  EXPECT_NEAR(variants[1] / 600.0, 0.75, 0.1);
}

std::string refusal(const RunConfig& config) {
  return message_of<UsageError>([&] { make_rl_trainer(config, {}, {}, false, torch::kCPU); });
}

TEST(RlRun, RefusesTasksAndRewardsThatDoNotFit) {
  EXPECT_CONTAINS(refusal(made_for("mqar", {{"task.mqar.pairs", 2, ""}})), "do not repeat the answer");
  EXPECT_CONTAINS(refusal(made_for("state_tracking", {})), "do not repeat the answer");
  EXPECT_CONTAINS(refusal(made({{"reward.name", "state_tracking", ""}})),
                  "cannot judge answers of task.name = question");
  EXPECT_CONTAINS(refusal(made({{"task.question.kind", "addition", ""},
                                {"reward.name", "arithmetic", ""},
                                {"reward.arithmetic.result_order", "lowest_first", ""}})),
                  "must give 1 to right answers");
  EXPECT_CONTAINS(refusal(made({{"mixture.tasks", "[{name: copy}]", ""}})), "another end token");
}

// Prompts of the user's own JSON Lines.
TEST(RlRun, LearnsFromJsonLines) {
  const Folder folder;
  {
    std::ofstream lines(folder / "pairs.jsonl");
    for (int i = 0; i < 400; ++i) lines << "{\"prompt\": \"" << i << "=\", \"answer\": \"" << i % 10 << "\"}\n";
  }
  const RunFolder run = begun(folder / "run", made_for("jsonl", {{"task.jsonl.files", folder / "pairs.jsonl", ""}}));
  const RunRecord record = train_run(run, {}, watch_nothing);
  EXPECT_EQ(record.state, RunState::finished) << record.reason;
  EXPECT_CONTAINS(read_answers(run.answers()).front().prompt, "=");
}

// Phases may have mixtures of their own: supervised training in several stages.
TEST(RlRun, PhasesHaveMixtures) {
  const RunConfig config = make_run_config(
      {{"task.name", "question", ""},
       {"task.length", 16, ""},
       {"train.steps", 10, ""},
       {"train.batch", 4, ""},
       {"train.phases",
        "[{steps: 9, task.question.kind: palindrome, mixture.tasks: [{question.kind: copy, weight: 2}]}]", ""}});
  const std::vector<Phase> phases = config.phases();
  ASSERT_EQ(phases.size(), 1u);
  ASSERT_EQ(phases[0].tasks.size(), 2u);
  EXPECT_EQ(phases[0].tasks[1].weight, 2);
  const BatchSource source = training_source(config);
  const auto task = config.task.make();
  std::set<std::string> commands;
  for (int64_t i = 0; i < 9; ++i) commands.insert(task->token_name(source(i).inputs[0][0].item<int64_t>()));
  EXPECT_EQ(commands, (std::set<std::string>{"copy", "reverse"}));
}

}  // namespace
}  // namespace klab

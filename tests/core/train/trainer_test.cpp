// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <fstream>
#include <limits>

#include "core/base/file.h"
#include "core/base/support.h"
#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

void set_embedding_row(Trainer& trainer, int64_t row, double value) {
  const torch::NoGradGuard no_grad;
  trainer.model()->named_parameters()["embedding"][row].fill_(value);
}

TEST(Trainer, LearnsTheTask) {
  TinyRun run;
  run.config.steps = 300;
  run.config.eval_every = 50;
  Trainer trainer = run.trainer("");
  const double before = trainer.evaluate().loss();
  EXPECT_GT(before, 1.0);
  EXPECT_EQ(trainer.run(go_on), Outcome::steps_done);
  EXPECT_EQ(trainer.status().step, 300);
  EXPECT_LT(trainer.status().validation.loss(), 0.1 * before);
  EXPECT_EQ(trainer.status().validation.acc_tok(), 1);
}

TEST(Trainer, EvaluatesWhenItIsDueAndAtTheEnd) {
  TinyRun run;
  run.config.steps = 12;
  run.config.eval_examples = 24;
  run.config.warmup_ratio = 0;
  Trainer trainer = run.trainer("");
  std::vector<int64_t> evaluated, seen;
  const auto watch = [&](const TrainStatus& status, bool evaluation) {
    seen.push_back(status.step);
    if (!evaluation) return Next::step;
    evaluated.push_back(status.step);
    EXPECT_EQ(status.validation.sequences, 24);
    EXPECT_EQ(status.train.sequences, status.step == 12 ? 16 : 40) << "since the previous evaluation";
    return Next::step;
  };
  trainer.run(watch);
  EXPECT_EQ(evaluated, (std::vector<int64_t>{5, 10, 12}));
  EXPECT_EQ(seen.size(), 12u);
  EXPECT_EQ(seen.front(), 1);
  EXPECT_NEAR(trainer.status().lr, run.config.lr_at(12), 1e-12);
}

TEST(Trainer, StopsWhenTheTaskIsLearnt) {
  TinyRun run;
  run.config.steps = 1000;
  run.config.stop_at = 1.0;
  const Folder folder;
  Trainer trainer = run.trainer(folder.path());
  EXPECT_EQ(trainer.run(go_on), Outcome::success);
  const int64_t step = trainer.status().step;
  EXPECT_LT(step, 1000);
  EXPECT_EQ(step % run.config.eval_every, 0);
  EXPECT_EQ(trainer.status().validation.acc_seq(), 1);
  EXPECT_EQ(step_of(RunFolder{folder.path()}.last()), step);
  Trainer again = run.trainer(folder.path(), /*resume=*/true);
  const auto never = [](const TrainStatus&, bool) {
    ADD_FAILURE() << "a finished run takes no step";
    return Next::stop;
  };
  EXPECT_EQ(again.run(never), Outcome::success);
}

TEST(Trainer, StopsWhenValidationNoLongerImproves) {
  TinyRun run;
  run.config.steps = 400;
  run.config.eval_every = 10;
  run.config.patience = 3;
  run.unlearn_from(60);
  const Folder folder;
  Trainer trainer = run.trainer(folder.path());
  EXPECT_EQ(trainer.run(go_on), Outcome::stalled);
  EXPECT_EQ(trainer.status().step, trainer.status().best_step + 30);
  EXPECT_LT(trainer.status().step, 200) << "the task was unlearnt from step 60 on";
  Trainer again = run.trainer(folder.path(), /*resume=*/true);
  const auto never = [](const TrainStatus&, bool) {
    ADD_FAILURE() << "a finished run takes no step";
    return Next::stop;
  };
  EXPECT_EQ(again.run(never), Outcome::stalled);
}

TEST(Trainer, ResumesToTheSameBits) {
  const TinyRun run;
  const Folder straight_folder, cut_folder;
  Trainer straight = run.trainer(straight_folder.path());
  EXPECT_EQ(straight.run(go_on), Outcome::steps_done);

  // Between two evaluations, so that the sums since the last one must be restored too.
  Trainer cut = run.trainer(cut_folder.path());
  EXPECT_EQ(cut.run(stop_after(7)), Outcome::stopped);
  EXPECT_EQ(step_of(RunFolder{cut_folder.path()}.last()), 7);
  Trainer resumed = run.trainer(cut_folder.path(), /*resume=*/true);
  EXPECT_EQ(resumed.status().step, 7);
  EXPECT_EQ(resumed.status().best.loss_sum, cut.status().best.loss_sum);
  int64_t steps = 0;
  EXPECT_EQ(resumed.run([&](const TrainStatus&, bool) { return ++steps, Next::step; }), Outcome::steps_done);
  EXPECT_EQ(steps, 13);
  expect_same_bits(parameters_of(straight), parameters_of(resumed));
  EXPECT_EQ(timeless_rows(RunFolder{straight_folder.path()}), timeless_rows(RunFolder{cut_folder.path()}));
  EXPECT_EQ(straight.status().best.loss_sum, resumed.status().best.loss_sum);
}

// Without a final checkpoint: rows of repeated steps are replaced, not duplicated.
TEST(Trainer, ResumesFromTheLastCheckpointAfterASuddenEnd) {
  TinyRun run;
  run.config.checkpoint_every = 4;
  const Folder straight_folder, cut_folder;
  Trainer straight = run.trainer(straight_folder.path());
  straight.run(go_on);

  struct SuddenEnd {};
  const RunFolder cut{cut_folder.path()};
  {
    Trainer trainer = run.trainer(cut.path);
    EXPECT_THROW(trainer.run([](const TrainStatus& status, bool) {
      if (status.step == 11) throw SuddenEnd();
      return Next::step;
    }),
                 SuddenEnd);
  }
  EXPECT_EQ(read_csv(cut.metrics()).rows.back()[0], "10");
  std::ofstream(cut.metrics(), std::ios::app) << "15,train,0.1";  // an incomplete row
  Trainer resumed = run.trainer(cut.path, /*resume=*/true);
  EXPECT_EQ(resumed.status().step, 8);
  resumed.run(go_on);
  expect_same_bits(parameters_of(straight), parameters_of(resumed));
  EXPECT_EQ(timeless_rows(RunFolder{straight_folder.path()}), timeless_rows(cut));
  EXPECT_EQ(read_csv(cut.metrics()).comments, std::vector<std::string>{"made by: a test"});
}

TEST(Trainer, StartsAnewUnlessItResumes) {
  const TinyRun run;
  const Folder folder;
  run.trainer(folder.path()).run(stop_after(7));
  Trainer anew = run.trainer(folder.path());
  EXPECT_EQ(anew.status().step, 0);
  EXPECT_EQ(read_csv(RunFolder{folder.path()}.metrics()).rows.size(), 0u);
  Trainer other = run.trainer("");
  expect_same_bits(parameters_of(anew), parameters_of(other));  // initial parameters depend only on the seed
}

TEST(Trainer, RefusesTheCheckpointOfAnotherModel) {
  const TinyRun run;
  const Folder folder;
  run.trainer(folder.path()).run(stop_after(1));
  EXPECT_CONTAINS(failure_of([&] {
                    Trainer(tiny_model(/*width=*/16), run.config, run.train, run.validation(), RunFolder{folder.path()},
                            {},
                            /*resume=*/true, torch::kCPU);
                  }),
                  "has another shape or dtype");
}

// In the first half of the steps the task is that of the validation data, then another one.
TEST(Trainer, KeepsTheBestCheckpointBesideTheLast) {
  TinyRun run;
  run.config.steps = 120;
  run.config.eval_every = 10;
  run.unlearn_from(60);
  const Folder folder;
  const RunFolder files{folder.path()};
  Trainer trainer = run.trainer(folder.path());
  std::map<int64_t, Score> evaluations;
  trainer.run([&](const TrainStatus& status, bool evaluated) {
    if (evaluated) evaluations[status.step] = status.validation;
    return Next::step;
  });
  int64_t best = 10;
  for (const auto& [step, score] : evaluations) {
    if (better(score.metrics(), evaluations[best].metrics())) best = step;
  }
  ASSERT_GE(best, 40) << "the task was learnt";
  ASSERT_LT(best, 120) << "and unlearnt";
  EXPECT_EQ(step_of(files.best()), best);
  EXPECT_EQ(step_of(files.last()), 120);
  EXPECT_EQ(trainer.status().best.loss_sum, evaluations[best].loss_sum);

  // The file has the parameters of that step.
  const Checkpoint kept = load_checkpoint(files.best());
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : trainer.model()->named_parameters()) item.value().copy_(kept.tensor("model." + item.key()));
  }
  EXPECT_NEAR(trainer.evaluate().loss(), evaluations[best].loss(), 1e-6);
}

// The rows of split `test` in metrics.csv: step and loss.
std::vector<std::pair<int64_t, double>> test_rows(const RunFolder& folder) {
  const CsvTable table = read_csv(folder.metrics());
  std::vector<std::pair<int64_t, double>> rows;
  for (const auto& row : table.rows) {
    if (row[table.column("split")] == "test") {
      rows.emplace_back(std::stoll(row[table.column("step")]), std::stod(row[table.column("loss")]));
    }
  }
  return rows;
}

TEST(Trainer, TestsTheLastAndTheBestParameters) {
  TinyRun run;
  run.config.steps = 120;
  run.config.eval_every = 10;
  run.unlearn_from(60);
  const Folder folder;
  const RunFolder files{folder.path()};
  Trainer trainer = run.trainer(folder.path());
  trainer.run(go_on);
  EXPECT_EQ(test_rows(files).size(), 0u) << "before the end nothing is tested";
  const auto before = parameters_of(trainer);
  const std::vector<Batch> held_out = TinyRun::batches_of(3, 2);
  const TestScores scores = trainer.test(held_out);
  expect_same_bits(parameters_of(trainer), before);
  EXPECT_LT(scores.best.loss(), 0.5 * scores.last.loss()) << "the task was learnt and unlearnt";
  const int64_t best = trainer.status().best_step;
  EXPECT_EQ(step_of(files.best()), best);
  const auto rows = test_rows(files);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].first, best);
  EXPECT_NEAR(rows[0].second, scores.best.loss(), 1e-6);
  EXPECT_EQ(rows[1].first, 120);
  EXPECT_NEAR(rows[1].second, scores.last.loss(), 1e-6);

  // The best ones are those of the checkpoint.
  {
    const torch::NoGradGuard no_grad;
    const Checkpoint kept = load_checkpoint(files.best());
    for (auto& item : trainer.model()->named_parameters()) item.value().copy_(kept.tensor("model." + item.key()));
  }
  double loss_sum = 0;
  for (const Batch& batch : held_out) loss_sum += score_batch(trainer.model(), batch, nullptr).loss_sum;
  EXPECT_NEAR(loss_sum, scores.best.loss_sum, 1e-4);
}

TEST(Trainer, ATestThatIsRepeatedAfterASuddenEndHasItsRowsOnce) {
  const TinyRun run;
  const Folder folder;
  const RunFolder files{folder.path()};
  Trainer trainer = run.trainer(folder.path());
  trainer.run(go_on);
  trainer.test(TinyRun::batches_of(3, 1));
  const auto once = test_rows(files);
  Trainer again = run.trainer(folder.path(), /*resume=*/true);
  again.run(go_on);
  again.test(TinyRun::batches_of(3, 1));
  EXPECT_EQ(test_rows(files), once);
}

TEST(Trainer, ALossThatIsNoNumberDiverges) {
  const TinyRun run;
  Trainer trainer = run.trainer("");
  for (int64_t token = 0; token < kTinyVocabulary; ++token) {
    set_embedding_row(trainer, token, std::numeric_limits<double>::quiet_NaN());
  }
  const std::string message = message_of<Diverged>([&] { trainer.run(go_on); });
  EXPECT_CONTAINS(message, "the loss became nan at step 1");
  EXPECT_CONTAINS(message, "There is no checkpoint yet");
  EXPECT_EQ(trainer.status().step, 0);
}

TEST(Trainer, AnInfiniteGradientDivergesBeforeItDoesHarm) {
  const TinyRun run;
  Trainer trainer = run.trainer("");
  trainer.run(stop_after(3));
  const auto before = parameters_of(trainer);
  trainer.model()->named_parameters()["embedding"].register_hook(
      [](const Tensor& gradient) { return gradient * std::numeric_limits<double>::infinity(); });
  EXPECT_CONTAINS(message_of<Diverged>([&] { trainer.run(go_on); }), "the norm of the gradients became");
  expect_same_bits(before, parameters_of(trainer));
}

TEST(Trainer, DivergingLeavesTheLastCheckpointAsItWas) {
  TinyRun run;
  run.config.checkpoint_every = 1;
  // Training never sees token 5, so only the validation loss depends on its embedding.
  run.train = [train = run.train](int64_t index) {
    Batch batch = train(index);
    batch.inputs.clamp_max_(4);
    batch.labels.clamp_max_(4);
    return batch;
  };
  const Folder folder;
  const RunFolder files{folder.path()};
  Trainer trainer = run.trainer(folder.path());
  trainer.run(stop_after(4));
  const std::string before = read_file(files.last());
  set_embedding_row(trainer, 5, std::numeric_limits<double>::quiet_NaN());
  const std::string message = message_of<Diverged>([&] { trainer.run(go_on); });
  EXPECT_CONTAINS(message, "the validation loss became nan at step " + std::to_string(trainer.status().step));
  EXPECT_CONTAINS(message, "The last good checkpoint is kept in '" + files.last() + "'");
  EXPECT_EQ(read_file(files.last()), before);
  EXPECT_FALSE(std::filesystem::exists(files.best()));
}

}  // namespace
}  // namespace klab

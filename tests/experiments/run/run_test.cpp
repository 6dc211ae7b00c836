// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <filesystem>
#include <map>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/run/evaluations.h"
#include "experiments/run/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

RunConfig tiny(const std::vector<Assignment>& more = {}) {
  std::vector<Assignment> all = {
      {"task.name", "copy", ""},   {"task.length", 9, ""},         {"task.vocab", 8, ""},
      {"model.layers", 1, ""},     {"model.width", 8, ""},         {"model.heads", 1, ""},
      {"model.head_dim", 8, ""},   {"train.steps", 12, ""},        {"train.batch", 4, ""},
      {"train.eval_every", 4, ""}, {"train.eval_examples", 8, ""}, {"train.checkpoint_every", 4, ""}};
  all.insert(all.end(), more.begin(), more.end());
  return make_run_config(all);
}

TEST(TrainRun, TrainsToTheEndAndRecordsIt) {
  const Folder folder;
  const RunFolder run = begun(folder / "run", tiny({{"test.also", "{length: 11}", ""}, {"test.examples", 4, ""}}));
  int steps = 0, evaluations = 0, starts = 0;
  const auto watch = [&](RunRecord&, const TrainStatus* status, bool evaluated) {
    starts += status == nullptr;
    steps += status != nullptr;
    evaluations += evaluated;
  };
  const RunRecord record = train_run(run, {.provenance = {"command: test"}}, watch);
  EXPECT_EQ(record.state, RunState::finished) << record.reason;
  EXPECT_EQ(starts, 1);
  EXPECT_EQ(steps, 12);
  EXPECT_EQ(evaluations, 3);
  EXPECT_EQ(record.step, 12);
  EXPECT_TRUE(record.evaluated);
  EXPECT_GT(record.parameters, 0);
  const RunRecord kept = read_record(run);
  EXPECT_EQ(kept.state, RunState::finished);
  EXPECT_EQ(kept.last.loss, record.last.loss);
  EXPECT_TRUE(kept.tested);
  EXPECT_GT(kept.test.loss, 0);
  EXPECT_NE(kept.test.loss, kept.last.loss) << "other sequences";
  const CsvTable metrics = read_csv(run.metrics());
  const auto& end = metrics.rows.back();
  EXPECT_EQ(end[metrics.column("split")], "test");
  EXPECT_EQ(end[metrics.column("step")], "12");
  EXPECT_EQ(end[metrics.column("loss")], fmt::format("{:.6f}", kept.test.loss));
  EXPECT_EQ(kept.provenance, std::vector<std::string>{"command: test"});
  for (const std::string& file : {run.metrics(), run.last(), run.best(), run.path + "/evaluations.csv"}) {
    EXPECT_TRUE(fs::exists(file)) << file;
  }
}

TEST(TrainRun, AWatcherParksARunThatContinuesToTheSameBits) {
  const Folder folder;
  const RunFolder whole = begun(folder / "whole", tiny()), parked = begun(folder / "parked", tiny());
  const RunRecord direct = train_run(whole, {}, watch_nothing);
  const auto park = [](RunRecord& record, const TrainStatus*, bool evaluated) {
    if (evaluated && record.step == 4) record.state = RunState::parked;
  };
  const RunRecord first = train_run(parked, {}, park);
  EXPECT_EQ(first.state, RunState::parked);
  EXPECT_EQ(first.step, 4);
  EXPECT_EQ(read_record(parked).state, RunState::parked);
  const RunRecord rest = train_run(parked, {.resume = true}, watch_nothing);
  EXPECT_EQ(rest.state, RunState::finished);
  EXPECT_EQ(rest.last.loss, direct.last.loss);
  const Checkpoint a = load_checkpoint(whole.last()), b = load_checkpoint(parked.last());
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(torch::equal(tensor, b.tensor(name))) << name;
}

TEST(TrainRun, AWatcherCanEndARunBeforeItsFirstStep) {
  const Folder folder;
  const RunFolder run = begun(folder / "run", tiny());
  const auto stop = [](RunRecord& record, const TrainStatus* status, bool) {
    if (status == nullptr) record.state = RunState::stopped;
  };
  EXPECT_EQ(train_run(run, {}, stop).state, RunState::stopped);
  EXPECT_EQ(read_record(run).state, RunState::stopped);
  EXPECT_EQ(read_record(run).step, 0);
}

TEST(TrainRun, DivergenceAndFailureAreInTheRecord) {
  const Folder folder;
  const RunFolder wild = begun(folder / "wild", tiny({{"train.lr", 1e30, ""}, {"train.warmup_ratio", 0, ""}}));
  const RunRecord diverged = train_run(wild, {}, watch_nothing);
  EXPECT_EQ(diverged.state, RunState::diverged) << diverged.reason;
  EXPECT_CONTAINS(diverged.reason, "diverged");
  EXPECT_EQ(read_record(wild).state, RunState::diverged);

  fs::create_directories(folder / "empty");
  const RunRecord failed = train_run({folder / "empty"}, {}, watch_nothing);
  EXPECT_EQ(failed.state, RunState::failed);
  EXPECT_CONTAINS(failed.reason, "config.yaml");
  EXPECT_EQ(read_record({folder / "empty"}).reason, failed.reason);
}

TEST(TrainRun, ARecordThatCannotBeWrittenIsAnError) {
  const Folder folder;
  EXPECT_THROW(train_run({folder / "nowhere"}, {}, watch_nothing), Error);
}

TEST(HeldOutBatches, HaveExactlyTheWantedExamples) {
  const RunConfig config = tiny();
  const std::vector<Batch> batches = held_out_batches(config.task, 1, 10, 4, Split::validation);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(batches[2].inputs.size(0), 2);
  const std::vector<Batch> whole = held_out_batches(config.task, 1, 10, 10, Split::validation);
  EXPECT_TRUE(torch::equal(torch::cat({batches[0].inputs, batches[1].inputs, batches[2].inputs}), whole[0].inputs));
  EXPECT_FALSE(torch::equal(held_out_batches(config.task, 1, 10, 10, Split::test)[0].inputs, whole[0].inputs));
}

// Runs that differ in the batch are compared on the same examples.
TEST(HeldOutBatches, AreTheSameExamplesForEveryBatch) {
  for (const char* task : {"copy", "language"}) {
    std::map<int64_t, torch::Tensor> inputs;
    for (const int64_t batch : {1, 3, 8, 48, 64}) {
      std::vector<torch::Tensor> parts;
      for (const Batch& part : held_out_batches(tiny({{"task.name", task, ""}}).task, 1, 10, batch, Split::test)) {
        parts.push_back(part.inputs);
      }
      inputs[batch] = torch::cat(parts);
      EXPECT_EQ(inputs[batch].size(0), 10) << task << ", batch " << batch;
      EXPECT_TRUE(torch::equal(inputs[batch], inputs[1])) << task << ", batch " << batch;
    }
  }
}

TEST(EvaluateVariant, TestsExactlyTheWantedExamples) {
  for (const int64_t batch : {3, 48}) {
    const RunConfig config = tiny({{"train.batch", batch, ""}, {"test.examples", 10, ""}});
    Decoder model = make_model(config);
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(evaluate_variant({"", config.task}, config, model, torch::kCPU).all.sequences, 10) << batch;
  }
}

TEST(TrainingSource, FollowsThePhases) {
  const RunConfig config =
      tiny({{"train.phases", "{steps: 3, task.length: 5}, {steps: 2, task.length: 7, task.vocab: 4}", ""}});
  const BatchSource source = training_source(config), plain = training_source(tiny());
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 7; ++i) lengths.push_back(source(i).inputs.size(1));
  EXPECT_EQ(lengths, (std::vector<int64_t>{5, 5, 5, 7, 7, 9, 9}));
  EXPECT_TRUE(torch::equal(source(6).inputs, plain(6).inputs)) << "the task's own steps do not depend on the phases";
}

TEST(TrainRun, PhasesHaveTheirBatchAndLearningRateAndResume) {
  const Folder folder;
  const RunConfig config = tiny(
      {{"train.phases", "{steps: 3, train.batch: 8, train.lr: 0.02}, {steps: 4, task.length: 13, train.batch: 2}", ""},
       {"train.schedule", "constant", ""},
       {"train.warmup_ratio", 0, ""},
       {"train.lr", 0.01, ""},
       {"train.accumulate", 2, ""}});
  const BatchSource source = training_source(config);
  std::vector<std::vector<int64_t>> shapes;
  for (const int64_t step : {0, 2, 3, 6, 7, 11}) shapes.push_back(source(step).inputs.sizes().vec());
  EXPECT_EQ(shapes, (std::vector<std::vector<int64_t>>{{8, 9}, {8, 9}, {2, 13}, {2, 13}, {4, 9}, {4, 9}}));
  const RunFolder whole = begun(folder / "whole", config), parked = begun(folder / "parked", config);
  std::vector<double> rates;
  const RunRecord direct = train_run(whole, {}, [&](RunRecord&, const TrainStatus* status, bool) {
    if (status != nullptr) rates.push_back(status->lr);
  });
  ASSERT_EQ(direct.state, RunState::finished) << direct.reason;
  std::vector<double> expected(12, 0.01);
  for (const size_t step : {0, 1, 2}) expected[step] = 0.02;
  EXPECT_EQ(rates, expected);
  train_run(parked, {}, [](RunRecord& record, const TrainStatus*, bool) {
    if (record.step == 5) record.state = RunState::parked;
  });
  EXPECT_EQ(train_run(parked, {.resume = true}, watch_nothing).test.loss, direct.test.loss);
  EXPECT_THROW(tiny({{"train.phases", "{steps: 3, train.batch: 3}", ""}, {"train.accumulate", 2, ""}}).phases(),
               UsageError);
}

TEST(TrainingSource, DrawsVariantsByWeight) {
  const RunConfig config = tiny({{"mixture.tasks", "{length: 11, weight: 3}, {length: 13, weight: 4}", ""}});
  const BatchSource source = training_source(config), again = training_source(config);
  std::map<int64_t, int> counts;
  constexpr int kBatches = 800;
  for (int i = 0; i < kBatches; ++i) {
    const Batch batch = source(i);
    ++counts[batch.inputs.size(1)];
    if (i < 10) {
      EXPECT_TRUE(torch::equal(batch.inputs, again(i).inputs));
    }
  }
  ASSERT_EQ(counts.size(), 3u);
  // Weights 1, 3, 4 of 800 batches: standard deviations below 15.
  EXPECT_NEAR(counts[9], 100, 60);
  EXPECT_NEAR(counts[11], 300, 70);
  EXPECT_NEAR(counts[13], 400, 75);
}

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/summary.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/run/run_config.h"

namespace klab {
namespace {

// Folders of finished runs with given results.
class Summary : public testing::Test {
 protected:
  void add(const std::string& mixer, double lr, int64_t seed, double acc_seq, double loss = 1,
           RunState state = RunState::finished, int64_t step = 10) {
    const std::string path = folder_ / ("run" + std::to_string(folders_.size()));
    std::filesystem::create_directories(path);
    const RunConfig config = make_run_config(
        {{"model.pattern", mixer, ""}, {"train.lr", lr, ""}, {"train.seed", seed, ""}, {"task.length", 32, ""}});
    write_file(path + "/config.yaml", to_yaml(config));
    RunRecord record;
    record.state = state;
    record.step = step;
    record.evaluated = true;
    record.last = record.best = {.loss = loss, .acc_tok = acc_seq, .acc_seq = acc_seq};
    write_record({path}, record);
    folders_.push_back(path);
  }

  Folder folder_;
  std::vector<std::string> folders_;
};

const std::vector<std::string> kKeys = {"model.pattern", "train.lr"};

TEST_F(Summary, ReadsConfigAndRecord) {
  add("kda", 1e-3, 4, 0.5);
  const RunSummary run = summarise(folders_[0]);
  EXPECT_EQ(run.field("train.lr"), 1e-3);
  EXPECT_EQ(run.field("train.seed"), 4);
  EXPECT_EQ(run.field("model.pattern"), Value::array({"kda"}));
  EXPECT_TRUE(run.field("model.gdn.conv_size").is_null());
  EXPECT_EQ(run.record.best.acc_seq, 0.5);
}

TEST_F(Summary, RunsDifferInKeysButForTheSeed) {
  add("kda", 1e-3, 1, 0.5);
  add("gdn", 1e-3, 2, 0.5);
  EXPECT_EQ(differing_keys(summarise_all(folders_).runs), std::vector<std::string>{"model.pattern"});
}

TEST_F(Summary, LanguageLossesAreOfAllTargetsByVariant) {
  add("kda", 1e-3, 1, 0.5);
  const RunSummary run = summarise(folders_[0]);
  EXPECT_FALSE(language_losses(run)) << "not finished";
  write_file(
      run.folder + "/evaluations.csv",
      "variant,difficulty,loss,excess\n,all,3,1\n,0,9,8\nlanguage.open=0.1,all,4,1.5\nlanguage.open=0.1,0,9,8\n");
  const LanguageLosses losses = language_losses(run).value();
  EXPECT_EQ(losses.loss, 3);
  EXPECT_EQ(losses.excess, 1);
  EXPECT_EQ(losses.shifted, 4);
  EXPECT_EQ(losses.shifted_excess, 1.5);
}

TEST_F(Summary, GroupsHoldTheSeeds) {
  add("kda", 1e-3, 1, 0.5);
  add("kda", 1e-2, 1, 0.75);
  add("kda", 1e-3, 2, 1.0);
  const std::vector<RunSummary> runs = summarise_all(folders_).runs;
  const std::vector<RunGroup> groups = grouped(runs, kKeys);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].values, (std::vector<Value>{Value::array({"kda"}), 1e-3}));
  EXPECT_EQ(groups[0].metric("best_acc_seq"), (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(groups[1].metric("best_acc_seq"), std::vector<double>{0.75});
}

TEST_F(Summary, TheBestGroupHasTheBestMeanAndThenTheSmallestLoss) {
  add("kda", 1e-3, 1, 0.0);
  add("kda", 1e-3, 2, 1.0);   // mean 0.5, though one seed is the best run
  add("kda", 1e-2, 1, 0.75);  // mean 0.75
  add("kda", 1e-2, 2, 0.75);
  add("gdn", 1e-3, 1, 0.5, /*loss=*/2);
  add("gdn", 1e-2, 1, 0.5, /*loss=*/1.5);
  const std::vector<RunSummary> runs = summarise_all(folders_).runs;
  const std::vector<RunGroup> best = best_over(grouped(runs, kKeys), kKeys, "train.lr", "best_acc_seq");
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[0].values[1], 1e-2);
  EXPECT_EQ(best[1].values[1], 1e-2) << "the smaller loss for equal accuracy";
  const std::vector<RunGroup> by_loss = best_over(grouped(runs, kKeys), kKeys, "train.lr", "loss");
  EXPECT_EQ(by_loss[1].values[1], 1e-2) << "a smaller loss is better";
}

TEST_F(Summary, ARunInSeveralPlacesCountsOnce) {
  add("kda", 1e-3, 1, 0.5);
  add("kda", 1e-3, 2, 0.5);
  add("kda", 1e-3, 1, 0.75, 1, RunState::finished, /*step=*/20);  // the first run again, after more steps
  std::vector<std::string> twice = folders_;
  twice.insert(twice.end(), folders_.begin(), folders_.end());
  for (const auto& folders : {folders_, twice}) {
    const RunSet set = summarise_all(folders);
    ASSERT_EQ(set.runs.size(), 2u);
    EXPECT_EQ(set.runs[0].record.best.acc_seq, 0.75);
    EXPECT_EQ(set.runs[1].field("train.seed"), 2);
    EXPECT_EQ(set.shared, folders.size() == 3 ? 1 : 2);
  }
}

TEST_F(Summary, RunsOfASweepWithoutAResultAreMissing) {
  add("kda", 1e-3, 1, 0.5);
  add("kda", 1e30, 1, 0);
  RunRecord diverged;
  diverged.state = RunState::diverged;
  write_record({folders_[1]}, diverged);
  Plan plan;
  for (const char* id : {"run0", "run1", "run2"}) {  // the last has no folder
    PlannedRun& run = plan.runs.emplace_back();
    run.id = id;
    run.place = static_cast<int64_t>(plan.runs.size()) - 1;
  }
  write_file(folder_ / "plan.json", to_text(plan));
  const RunSet set = summarise_all({folder_.path() + "/"});
  ASSERT_EQ(set.runs.size(), 1u);
  ASSERT_EQ(set.missing.size(), 2u);
  EXPECT_EQ(set.missing[0].record.state, RunState::diverged);
  EXPECT_EQ(set.missing[1].folder, folder_ / "run2");
  EXPECT_TRUE(differing_keys(set.runs).empty());
  EXPECT_EQ(differing_keys(set.runs, set.missing), std::vector<std::string>{"train.lr"});
  write_record({folders_[0]}, diverged);
  EXPECT_CONTAINS(message_of<UsageError>([&] { summarise_all({folder_.path()}); }),
                  "none of 3 runs has been evaluated");
}

TEST_F(Summary, RunsThatEndedOtherwiseAreOtherGroups) {
  add("kda", 1e-3, 1, 0.5, 1, RunState::finished, 20);
  add("kda", 1e-3, 2, 0.5, 1, RunState::stopped, 10);
  add("kda", 1e-3, 3, 0.5, 1, RunState::stopped, 5);
  add("kda", 1e-3, 4, 0.5, 1, RunState::finished, 15);  // early, on success
  add("kda", 1e-3, 5, 0.5, 1, RunState::stopped, 10);
  const std::vector<RunSummary> runs = summarise_all(folders_).runs;
  std::vector<std::vector<int64_t>> steps;
  for (const RunGroup& group : split_by_end(grouped(runs, kKeys))) {
    steps.emplace_back();
    for (const RunSummary* run : group.runs) steps.back().push_back(run->record.step);
  }
  EXPECT_EQ(steps, (std::vector<std::vector<int64_t>>{{20, 15}, {10, 10}, {5}}));
}

// Comparing every run with every other takes minutes.
TEST(ManyRuns, AreGroupedInAMoment) {
  std::vector<RunSummary> runs(5000);
  for (size_t i = 0; i < runs.size(); ++i) {
    runs[i].config = {{"train.lr", static_cast<double>(i / 2)}, {"train.seed", static_cast<int64_t>(i)}};
    for (int key = 0; key < 50; ++key) runs[i].config["same." + std::to_string(key)] = key;
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(differing_keys(runs), std::vector<std::string>{"train.lr"});
  const std::vector<RunGroup> groups = grouped(runs, {"train.lr"});
  EXPECT_EQ(groups.size(), 2500u);
  EXPECT_EQ(best_over(groups, {"train.lr"}, "train.lr", "loss").size(), 1u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
}

TEST_F(Summary, WhatHasNoResultIsRefused) {
  EXPECT_CONTAINS(message_of<UsageError>([&] { summarise(folder_ / "none"); }), "neither a run nor a sweep");
  add("kda", 1e-3, 1, 0.5);
  write_record({folders_[0]}, RunRecord{});
  EXPECT_CONTAINS(message_of<Error>([&] { summarise(folders_[0]); }), "has not been evaluated yet");
}

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/board.h"

#include <gtest/gtest.h>

#include "core/base/support.h"

namespace klab {
namespace {

Plan sample_plan() {
  Plan plan;
  plan.keys = {"train.lr", "model.pattern"};
  plan.runs = {{"id-a", {"0.01", "[kda, mla]"}, "", 0, 100, 1000},
               {"id-b", {"0.1", ""}, "", 1, 100, 1000},
               {"id-c", {"1", "gdn"}, "", 2, 100, 1000}};
  return plan;
}

std::vector<RunRecord> records_of(const std::vector<RunState>& states) {
  std::vector<RunRecord> records(states.size());
  for (size_t i = 0; i < states.size(); ++i) records[i].state = states[i];
  return records;
}

// Captured standard error is a file, so the board prints lines instead of a table.
std::string printed(const Plan& plan, const std::vector<std::vector<RunRecord>>& looks, bool quiet = false) {
  testing::internal::CaptureStderr();
  {
    SweepBoard board(plan, looks.front(), quiet);
    for (const auto& records : looks) board.draw(records, 2);
  }
  return testing::internal::GetCapturedStderr();
}

constexpr auto kWaiting = RunState::waiting, kRunning = RunState::running, kFinished = RunState::finished;

TEST(SweepBoard, TellsEveryEndingOnce) {
  const auto before = records_of({kRunning, kRunning, kWaiting});
  auto ended = records_of({kFinished, kRunning, kRunning});
  ended[0].step = 100;
  EXPECT_EQ(printed(sample_plan(), {before, ended, ended}), "lr=0.01 pattern=kda, mla: finished at step 100\n");
}

TEST(SweepBoard, SaysWhyARunDidNotSucceed) {
  const auto before = records_of({kRunning, kRunning, kRunning});
  auto ended = records_of({RunState::diverged, RunState::failed, RunState::stopped});
  for (size_t i = 0; i < 3; ++i) {
    ended[i].step = static_cast<int64_t>(i);
    ended[i].reason = "because";
  }
  const std::string text = printed(sample_plan(), {before, ended});
  EXPECT_CONTAINS(text, "diverged at step 0  because\n");
  EXPECT_CONTAINS(text, "lr=0.1: failed at step 1  because\n");  // keys that the run does not have are omitted
  EXPECT_CONTAINS(text, "lr=1 pattern=gdn: stopped at step 2\n");
}

TEST(SweepBoard, ShowsTheScoresOfTheLastEvaluation) {
  auto ended = records_of({kFinished, kWaiting, kWaiting});
  ended[0].evaluated = true;
  ended[0].last = {0.1239, 0.9, 0.5};
  ended[0].best = {9, 1, 1};
  const std::string text = printed(sample_plan(), {records_of({kRunning, kWaiting, kWaiting}), ended});
  EXPECT_CONTAINS(text, "finished at step 0  loss 0.124  acc_tok 0.900  acc_seq 0.500\n");
}

TEST(SweepBoard, DoesNotRepeatTheEndingsOfEarlierCalls) {
  const auto records = records_of({kFinished, RunState::diverged, kWaiting});
  EXPECT_EQ(printed(sample_plan(), {records, records}), "");
}

TEST(SweepBoard, NamesRunsByTheirIdWhereNothingDiffers) {
  Plan plan;
  plan.runs = {{"mqar-kda-1a2b", {}, "", 0, 1, 1}};
  EXPECT_CONTAINS(printed(plan, {records_of({kRunning}), records_of({kFinished})}), "mqar-kda-1a2b: finished");
}

TEST(SweepBoard, QuietDrawsNothing) {
  const auto before = records_of({kRunning, kWaiting, kWaiting}), after = records_of({kFinished, kWaiting, kWaiting});
  EXPECT_EQ(printed(sample_plan(), {before, after}, /*quiet=*/true), "");
}

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
// The benchmark of a step on several ranks.
#include "experiments/bench/rank_step.h"

#include <gtest/gtest.h>

#include <mutex>

#include "core/train/rank_traffic.h"
#include "support/ranks.h"

namespace klab {
namespace {

TEST(RankStep, TimesEveryWayAndCountsBytes) {
  TrainingWorkload workload;
  workload.pattern = {"kda"};
  workload.layers = 1;
  workload.width = 32;
  workload.length = 32;
  workload.tokens = 64;
  std::mutex mutex;
  std::vector<RankStepTimes> of_ranks;
  on_rank_threads(2, [&](const std::shared_ptr<RankGroup>& ranks) {
    const RankStepTimes times = measure_rank_step(workload, {.ranks = ranks}, 0.1);
    const std::lock_guard lock(mutex);
    of_ranks.push_back(times);
  });
  ASSERT_EQ(of_ranks.size(), 2u);
  const RunConfig config = workload.config();
  const RankTraffic predicted =
      predict_rank_traffic(config.model, config.vocabulary(), config.train, 2, workload.length, {2});
  for (const RankStepTimes& times : of_ranks) {
    for (const auto part : {&RankStepTimes::alone, &RankStepTimes::overlap, &RankStepTimes::after,
                            &RankStepTimes::reducer, &RankStepTimes::sending}) {
      EXPECT_GT(times.*part, 0);
      EXPECT_EQ(times.*part, of_ranks[0].*part);  // of the slowest rank
    }
    EXPECT_GE(times.sent, predicted.total());
    EXPECT_LT(times.sent, predicted.total() + 10'000);
  }
}

}  // namespace
}  // namespace klab

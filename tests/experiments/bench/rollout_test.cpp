// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/rollout.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"

namespace klab {
namespace {

// Small, but with the two mixers of the hybrid.
RolloutWorkload hybrid() {
  RolloutWorkload workload;
  workload.pattern = {"kda", "mla"};
  workload.layers = 2;
  workload.width = 32;
  workload.prompts = 3;
  workload.samples = 2;
  workload.prompt_tokens = 6;
  workload.new_tokens = 5;
  return workload;
}

TEST(MeasureRollout, CountsTheTokensOfAllAnswers) {
  const RolloutSpeed speed = measure_rollout(hybrid(), 0.05);
  EXPECT_EQ(hybrid().tokens(), 3 * 2 * 5);
  EXPECT_EQ(speed.tokens, 3 * 2 * 5);
  EXPECT_GE(speed.iterations, 3);
  EXPECT_GT(speed.rollout_seconds, 0);
  EXPECT_GT(speed.reward_seconds, 0);
  EXPECT_GT(speed.update_seconds, speed.reward_seconds) << "every group has a signal";
  EXPECT_NEAR(speed.rollout_tokens_per_second() * speed.rollout_seconds, 30, 1e-9);
  EXPECT_NEAR(speed.update_tokens_per_second() * speed.update_seconds, 30, 1e-9);
}

TEST(MeasureRollout, SaysWhereSamplingSpendsItsTime) {
  const RolloutSpeed speed = measure_rollout(hybrid(), 0.05);
  ASSERT_EQ(speed.shares.size(), rollout_categories().size());
  for (const std::string& category : rollout_categories()) EXPECT_GT(speed.shares.at(category), 0) << category;
  const double sum = std::accumulate(speed.shares.begin(), speed.shares.end(), 0.0,
                                     [](double so_far, const auto& item) { return so_far + item.second; });
  EXPECT_NEAR(sum, 1, 1e-9);
  ASSERT_FALSE(speed.operators.empty());
  EXPECT_GE(speed.operators.front().milliseconds, speed.operators.back().milliseconds);
}

TEST(MeasureRollout, SamplesInOtherDtypes) {
  RolloutWorkload workload = hybrid();
  workload.dtype = "bfloat16";
  const RolloutSpeed speed = measure_rollout(workload, 0.02);
  EXPECT_EQ(speed.tokens, 30);
  EXPECT_GT(speed.rollout_seconds, 0);
}

TEST(RolloutWorkload, ByDefaultIsASmallModel) {
  RolloutWorkload workload;
  workload.pattern = {"kda*3", "mla"};
  const RunConfig config = workload.config();
  EXPECT_EQ(config.vocabulary(), 20);
  EXPECT_EQ(config.model.heads, 4);
  EXPECT_EQ(config.model.head_dim, 32);
  EXPECT_EQ(config.model.layer_mixers(), (std::vector<std::string>{"kda", "kda", "kda", "mla"}));
  EXPECT_EQ(config.rl->answers(), 64);
  EXPECT_EQ(config.rl->max_new_tokens, 64);
  EXPECT_EQ(config.rl->temperature, 1);
  EXPECT_EQ(workload.tokens(), 4096);
}

TEST(RolloutWorkload, RefusesWhatIsNoModel) {
  const auto message = [](const RolloutWorkload& workload) {
    try {
      measure_rollout(workload, 0.01);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  RolloutWorkload workload = hybrid();
  workload.pattern = {"gnd"};
  EXPECT_NE(message(workload).find("Known: kda, gdn, mamba2"), std::string::npos) << message(workload);
  workload = hybrid();
  workload.samples = 1;
  EXPECT_NE(message(workload).find("rl.samples"), std::string::npos) << message(workload);
  workload = hybrid();
  workload.dtype = "float16";
  EXPECT_NE(message(workload).find("rl.rollout_dtype"), std::string::npos) << message(workload);
}

}  // namespace
}  // namespace klab

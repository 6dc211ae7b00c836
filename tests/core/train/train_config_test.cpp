// SPDX-License-Identifier: Apache-2.0
#include "core/train/train_config.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace klab {
namespace {

TEST(TrainConfig, WarmsUpThenFollowsACosineToZero) {
  TrainConfig config;
  config.steps = 1000;
  config.warmup_ratio = 0.1;
  config.lr = 2.0;
  EXPECT_DOUBLE_EQ(config.lr_at(1), 0.02);
  EXPECT_DOUBLE_EQ(config.lr_at(50), 1.0);
  EXPECT_DOUBLE_EQ(config.lr_at(100), 2.0);
  EXPECT_NEAR(config.lr_at(550), 1.0, 1e-12);
  EXPECT_NEAR(config.lr_at(1000), 0.0, 1e-12);
  for (int64_t step = 101; step < 1000; ++step) EXPECT_LT(config.lr_at(step + 1), config.lr_at(step));
}

TEST(TrainConfig, WorksWithoutWarmUpAndForOneStep) {
  TrainConfig config;
  config.warmup_ratio = 0;
  config.steps = 1;
  EXPECT_GT(config.lr_at(1), 0);
}

TEST(TrainConfig, RefusesWhatMakesNoSenseByKey) {
  const std::vector<std::pair<std::string, std::string>> bad = {{"steps", "0"},
                                                                {"batch", "0"},
                                                                {"lr", "0"},
                                                                {"lr", "-1"},
                                                                {"seed", "-1"},
                                                                {"eval_every", "0"},
                                                                {"eval_examples", "0"},
                                                                {"stop_at", "0"},
                                                                {"max_grad_norm", "0"},
                                                                {"warmup_ratio", "1.5"},
                                                                {"beta1", "1"},
                                                                {"beta2", "1"},
                                                                {"weight_decay", "-1"},
                                                                {"warmup_ratio", "-0.1"},
                                                                {"max_grad_norm", "-1"},
                                                                {"checkpoint_every", "0"},
                                                                {"accumulate", "0"},
                                                                {"decay_ratio", "1.1"},
                                                                {"final_lr", "-0.1"},
                                                                {"ema", "1"},
                                                                {"momentum", "1"},
                                                                {"optimizer", "sgd"},
                                                                {"schedule", "step"},
                                                                {"decay", "none"},
                                                                {"from_state", "yes"},
                                                                {"lr_factors", "[A_log]"}};
  for (const auto& [key, value] : bad) {
    TrainConfig config;
    try {
      assign(config, {{key, value, "test"}});
      FAIL() << key << " = " << value;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(key + " = " + value + " must be"), std::string::npos) << error.what();
    }
  }
}

TEST(TrainConfig, RefusesCombinationsThatMakeNoSense) {
  const auto refusal = [](const std::vector<Assignment>& assignments) {
    TrainConfig config;
    assign(config, assignments);
    try {
      config.validate();
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_EQ(refusal({}), "none");
  EXPECT_EQ(refusal({{"batch", "12", ""}, {"accumulate", "4", ""}}), "none");
  EXPECT_EQ(refusal({{"batch", "12", ""}, {"accumulate", "5", ""}}),
            "train.accumulate = 5 must divide train.batch = 12");
  EXPECT_EQ(refusal({{"from_state", "true", ""}}), "train.from_state = true must come with train.from");
  EXPECT_EQ(refusal({{"lr_factors", "[{match: norm, factor: 2}]", ""}}), "none");
  EXPECT_NE(refusal({{"lr_factors", "[{match: norm}]", ""}}).find("train.lr_factors[0]"), std::string::npos);
}

}  // namespace
}  // namespace klab

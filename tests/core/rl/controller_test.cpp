// SPDX-License-Identifier: Apache-2.0
#include "core/rl/controller.h"

#include <gtest/gtest.h>

#include "core/base/support.h"
#include "core/rl/curriculum.h"

namespace klab {
namespace {

RlConfig adaptive() {
  RlConfig config;
  config.prompts = 5;
  config.samples = 10;
  config.kl_weight = 0.4;
  config.kl_target = 0.1;
  config.kl_horizon = 500;
  config.minibatches = 4;
  config.most_minibatches = 16;
  config.validate();
  return config;
}

TEST(Controller, IsConstantUnlessItIsAskedFor) {
  RlConfig config;
  config.minibatches = 3;
  Controller controller(config);
  for (int i = 0; i < 20; ++i) controller.after_iteration({100, 0, 1}, config);
  EXPECT_EQ(controller.kl_weight, config.kl_weight);
  EXPECT_EQ(controller.minibatches, 3);
}

TEST(Controller, MovesTheWeightByTheErrorOfTheDivergence) {
  const RlConfig config = adaptive();
  const auto weight_after = [&](double kl) {
    Controller controller(config);
    controller.after_iteration({kl, 1, 0}, config);
    return controller.kl_weight;
  };
  EXPECT_DOUBLE_EQ(weight_after(0.1), 0.4);
  EXPECT_DOUBLE_EQ(weight_after(0.11), 0.4 * (1 + 0.1 * 50 / 500));
  EXPECT_DOUBLE_EQ(weight_after(0.12), 0.4 * (1 + 0.2 * 50 / 500));
  EXPECT_DOUBLE_EQ(weight_after(5.0), 0.4 * (1 + 0.2 * 50 / 500)) << "the error is limited";
  EXPECT_DOUBLE_EQ(weight_after(0.0), 0.4 * (1 - 0.2 * 50 / 500));
}

TEST(Controller, HalvesTheMinibatchesWhenThePolicyMovesTooFar) {
  const RlConfig config = adaptive();
  const auto minibatches_after = [&](const PolicyChange& second) {
    Controller controller(config);
    controller.after_iteration({0.1, 2.0, 0}, config);
    controller.after_iteration(second, config);
    return controller.minibatches;
  };
  EXPECT_EQ(minibatches_after({0.2, 1.0, 0.05}), 4) << "at the three limits";
  EXPECT_EQ(minibatches_after({0.201, 2.0, 0}), 2);
  EXPECT_EQ(minibatches_after({0.1, 0.99, 0}), 2);
  EXPECT_EQ(minibatches_after({0.1, 2.0, 0.051}), 2);
}

TEST(Controller, DoublesTheMinibatchesAfterFiveQuietIterations) {
  const RlConfig config = adaptive();
  Controller controller(config);
  const PolicyChange quiet{0.1, 2, 0}, far{1, 2, 0};
  for (int i = 0; i < 4; ++i) controller.after_iteration(quiet, config);
  EXPECT_EQ(controller.minibatches, 4);
  controller.after_iteration(quiet, config);
  EXPECT_EQ(controller.minibatches, 8);
  for (int i = 0; i < 4; ++i) controller.after_iteration(quiet, config);
  controller.after_iteration(far, config);
  EXPECT_EQ(controller.minibatches, 4);
  for (int i = 0; i < 15; ++i) controller.after_iteration(quiet, config);
  EXPECT_EQ(controller.minibatches, 16) << "4, 8, 16, and no more";
  for (int i = 0; i < 9; ++i) controller.after_iteration(far, config);
  EXPECT_EQ(controller.minibatches, 1);
}

TEST(RlConfig, RefusesCombinationsThatMakeNoSense) {
  const auto refused = [](const std::string& words, const std::function<void(RlConfig&)>& change) {
    RlConfig config;
    change(config);
    EXPECT_CONTAINS(message_of<UsageError>([&] { config.validate(); }), words);
  };
  refused("rl.kl_weight = 0 must be positive", [](RlConfig& config) { config.kl_weight = 0; });
  refused("rl.most_minibatches = 2 must be at least rl.minibatches = 4", [](RlConfig& config) {
    config.minibatches = 4;
    config.most_minibatches = 2;
    config.kl_target = 0.1;
  });
  refused("must come with rl.kl_target", [](RlConfig& config) { config.most_minibatches = 8; });
  refused("must come with rl.ptx_tasks", [](RlConfig& config) { config.ptx_weight = 0.1; });
  refused("to be adjusted", [](RlConfig& config) {
    config.loss = "grpo";
    config.kl_weight = 0;
    config.kl_target = 0.1;
  });
}

std::vector<double> shares(const Curriculum& curriculum, size_t variants) {
  constexpr int kDraws = 20'000;
  std::vector<double> found(variants);
  for (int i = 0; i < kDraws; ++i) {
    Random random{7, static_cast<uint64_t>(i)};
    found[curriculum.draw(random)] += 1.0 / kDraws;
  }
  return found;
}

TEST(Curriculum, DrawsVariantsByWeightAndSuccessRate) {
  const auto drawn = [](const std::string& kind) {
    Curriculum curriculum({1, 3, 1}, kind);
    curriculum.restore({0.9, 0.5, 0.0});
    return shares(curriculum, 3);
  };
  const auto expect = [&](const std::string& kind, const std::vector<double>& weights) {
    const double all = weights[0] + weights[1] + weights[2];
    const std::vector<double> found = drawn(kind);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found[i], weights[i] / all, 0.02) << kind << " " << i;
  };
  expect("none", {1, 3, 1});
  expect("prioritised", {0.1, 1.5, 1});
  expect("learnable", {0.09, 0.75, 0.02});
}

TEST(Curriculum, AveragesSuccessRates) {
  Curriculum curriculum({1, 1}, "prioritised");
  EXPECT_EQ(curriculum.success_rates(), (std::vector<double>{0.5, 0.5}));
  curriculum.observe(1, 1);
  EXPECT_DOUBLE_EQ(curriculum.success_rates()[1], 0.55);
  for (int i = 0; i < 200; ++i) curriculum.observe(1, 0.25);
  EXPECT_NEAR(curriculum.success_rates()[1], 0.25, 1e-6);
  EXPECT_EQ(curriculum.success_rates()[0], 0.5);
  EXPECT_CONTAINS(message_of<Error>([&] { curriculum.restore({1}); }), "1 variants");
}

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
#include "core/train/weight_average.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace klab {
namespace {

using torch::Tensor;

struct Two : torch::nn::Module {
  Two()
      : trained(register_parameter("trained", torch::randn({4, 3}))),
        fixed(register_parameter("fixed", torch::randn({5}), /*requires_grad=*/false)) {}
  void change() const {
    const torch::NoGradGuard no_grad;
    Tensor(trained).normal_();
    Tensor(fixed).normal_();
  }
  Tensor trained, fixed;
};

TEST(WeightAverage, IsTheExponentialAverageFromTheFirstValues) {
  const Two module;
  WeightAverage average(module, 0.9);
  Tensor trained = module.trained.detach().to(torch::kDouble), fixed = module.fixed.to(torch::kDouble);
  for (int step = 0; step < 20; ++step) {
    module.change();
    average.update();
    trained = 0.9 * trained + 0.1 * module.trained.detach().to(torch::kDouble);
    fixed = 0.9 * fixed + 0.1 * module.fixed.to(torch::kDouble);
  }
  const auto state = average.state();
  ASSERT_EQ(state.size(), 2u);
  EXPECT_LT((state.at("ema.trained") - trained).abs().max().item<double>(), 20 * 6e-8 * 4);
  EXPECT_LT((state.at("ema.fixed") - fixed).abs().max().item<double>(), 20 * 6e-8 * 4);
}

TEST(WeightAverage, IsSwappedInAndBackToTheBit) {
  const Two module;
  WeightAverage average(module, 0.5);
  module.change();
  average.update();
  const Tensor weight = module.trained.detach().clone(), mean = average.state().at("ema.trained").clone();
  {
    const AveragedWeights guard(&average);
    EXPECT_TRUE(torch::equal(module.trained, mean));
  }
  EXPECT_TRUE(torch::equal(module.trained, weight));
  EXPECT_TRUE(torch::equal(average.state().at("ema.trained"), mean));
  { const AveragedWeights nothing(nullptr); }
  average.restart();
  EXPECT_TRUE(torch::equal(average.state().at("ema.trained"), weight));
}

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/train/adamw.h"

namespace klab {
namespace {

// AdamW with a limit of weights.
class Limited : public AdamW {
 public:
  using AdamW::AdamW;

 protected:
  void after_update() override {
    const torch::NoGradGuard no_grad;
    weight.clamp_(-0.5, 0.5);
  }

 public:
  torch::Tensor weight;
};

TEST(Optimizer, RunsTheHookAfterTheUpdate) {
  const torch::Tensor weight = torch::full({3}, 0.4).requires_grad_();
  Limited limited({{"weight", weight}}, {});
  limited.weight = weight;
  weight.mutable_grad() = torch::full({3}, -1.0);
  limited.step(0.3);  // alone it would give 0.7
  EXPECT_TRUE(torch::equal(weight.detach(), torch::full({3}, 0.5)));
}

TEST(Optimizer, TrainsOnlyWhatRequiresGradients) {
  struct Both : torch::nn::Module {
    Both() {
      register_parameter("trained", torch::zeros({2}));
      register_parameter("fixed", torch::zeros({2}), /*requires_grad=*/false);
    }
  } both;
  const auto trained = trained_parameters(both);
  ASSERT_EQ(trained.size(), 1u);
  EXPECT_EQ(trained[0].name, "trained");
  EXPECT_EQ(trained[0].lr_factor, 1);
}

}  // namespace
}  // namespace klab

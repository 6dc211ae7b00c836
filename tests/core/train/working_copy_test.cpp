// SPDX-License-Identifier: Apache-2.0
// Training steps in bfloat16 with float32 weights.
#include "core/train/working_copy.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "core/train/gradient_sums.h"
#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

Decoder initialised_model() {
  Decoder model = tiny_model();
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

TEST(WorkingCopy, RoundsTheWeightsAtEveryRefresh) {
  Decoder model = initialised_model();
  WorkingCopy copy(model, torch::kBFloat16);
  for (int turn = 0; turn < 2; ++turn) {
    copy.refresh();
    const auto rounded = copy.model()->named_parameters();
    for (const auto& item : model->named_parameters()) {
      EXPECT_EQ(item.value().scalar_type(), torch::kFloat) << item.key();
      EXPECT_TRUE(torch::equal(rounded[item.key()], item.value().to(torch::kBFloat16))) << item.key();
    }
    const torch::NoGradGuard no_grad;
    for (Tensor& weights : model->parameters()) weights.add_(0.37);
  }
}

// 256 + 1 is 256 in bfloat16.
TEST(WorkingCopy, SumsGradientsInFloat32) {
  Decoder model = initialised_model();
  WorkingCopy copy(model, torch::kBFloat16);
  GradientSums sums(model, copy.model(), Parallelism{});
  for (const double value : {256.0, 1.0, 1.0}) {
    for (const Tensor& weights : copy.model()->parameters()) {
      weights.mutable_grad() = torch::full_like(weights, value).detach();
    }
    sums.end_part();
  }
  sums.end_last_part();
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.value().grad().scalar_type(), torch::kFloat) << item.key();
    EXPECT_TRUE(item.value().grad().eq(258).all().item<bool>()) << item.key();
  }
  for (const Tensor& weights : copy.model()->parameters()) EXPECT_FALSE(weights.grad().defined());
}

TEST(WorkingCopy, ParametersWithoutGradientsKeepNone) {
  Decoder model = initialised_model();
  WorkingCopy copy(model, torch::kBFloat16);
  GradientSums(model, copy.model(), Parallelism{}).end_last_part();
  for (const Tensor& weights : model->parameters()) EXPECT_FALSE(weights.grad().defined());
}

TEST(WorkingCopy, TrainingInBfloat16LearnsTheTask) {
  TinyRun run;
  run.config.steps = 300;
  run.config.eval_every = 50;
  run.config.dtype = "bfloat16";
  Trainer trainer = run.trainer("");
  const double before = trainer.evaluate().loss();
  trainer.run(go_on);
  EXPECT_LT(trainer.status().validation.loss(), 0.1 * before);
  for (const auto& [name, weights] : parameters_of(trainer)) EXPECT_EQ(weights.scalar_type(), torch::kFloat) << name;
}

// Updates of a tenth of the distance between two bfloat16 numbers add up in the weights.
TEST(WorkingCopy, SmallUpdatesAreNotLost) {
  TinyRun run;
  run.config.dtype = "bfloat16";
  run.config.schedule = "constant";
  run.config.warmup_ratio = 0;
  run.config.lr = 1e-5;
  run.config.steps = 20;
  Trainer trainer = run.trainer("");
  const auto before = parameters_of(trainer);
  trainer.run(stop_after(1));
  for (const auto& [name, weights] : parameters_of(trainer)) {
    EXPECT_FALSE(torch::equal(weights, before.at(name))) << name;
  }
}

// A step computes with rounded weights and activations: its gradient is near that of a float32 step, but not equal.
TEST(WorkingCopy, TheStepIsComputedInBfloat16) {
  TinyRun run;
  run.config.steps = 1;
  Trainer wide = run.trainer("");
  wide.run(go_on);
  run.config.dtype = "bfloat16";
  Trainer narrow = run.trainer("");
  narrow.run(go_on);
  const double norm = wide.status().grad_norm;
  EXPECT_NE(narrow.status().grad_norm, norm);
  EXPECT_NEAR(narrow.status().grad_norm, norm, 0.02 * norm);
}

}  // namespace
}  // namespace klab

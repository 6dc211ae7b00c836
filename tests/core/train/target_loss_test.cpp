// SPDX-License-Identifier: Apache-2.0
// The loss in parts against the loss of all logits at once.
#include "core/train/target_loss.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include <cmath>
#include <limits>

#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

struct Gradients {
  Tensor loss, d_hidden, d_weight;
};

// The loss of plain operators in float64, and its gradients.
Gradients expected(const Tensor& hidden, const Tensor& weight, const Tensor& labels) {
  const Tensor h = hidden.detach().to(torch::kDouble).requires_grad_(true);
  const Tensor w = weight.detach().to(torch::kDouble).requires_grad_(true);
  const Tensor loss = torch::cross_entropy_loss(h.mm(w.t()), labels);
  const auto gradients = torch::autograd::grad({3 * loss}, {h, w});
  return {loss.detach(), gradients[0], gradients[1]};
}

// A model with a random output head.
Decoder model_of(int64_t vocabulary) {
  Decoder model = tiny_model(16, vocabulary);
  const torch::NoGradGuard no_grad;
  Tensor(model->head_weight()).normal_(0, 1, at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  return (a.to(torch::kDouble) - b).abs().max().item<double>();
}

// `vocabulary` decides whether 700 targets are taken at once (5,000) or in parts (20,000).
class TargetLossTest : public testing::TestWithParam<int64_t> {};

TEST_P(TargetLossTest, IsThatOfAllLogits) {
  constexpr int64_t kTargets = 700;
  const int64_t vocabulary = GetParam();
  Decoder model = model_of(vocabulary);
  const Tensor weight = model->head_weight();
  const Tensor hidden = torch::randn({kTargets, weight.size(1)}).requires_grad_(true);
  const Tensor labels = torch::randint(vocabulary, {kTargets}, torch::kLong);
  const Gradients want = expected(hidden, weight, labels);
  const TargetLoss found = target_loss(model, hidden, labels, /*each=*/true);
  const auto gradients = torch::autograd::grad({3 * found.mean}, {hidden, weight});
  const double rounding = 64 * std::numeric_limits<float>::epsilon();
  EXPECT_LT(largest_difference(found.mean.detach(), want.loss), rounding * std::log(vocabulary));
  EXPECT_LT(largest_difference(gradients[0], want.d_hidden), rounding * want.d_hidden.abs().max().item<double>());
  EXPECT_LT(largest_difference(gradients[1], want.d_weight), rounding * want.d_weight.abs().max().item<double>());

  const Tensor logits = hidden.detach().mm(weight.detach().t());
  EXPECT_TRUE(found.wrong.equal(logits.argmax(-1).ne(labels).to(torch::kLong)));
  EXPECT_TRUE(
      torch::allclose(found.losses, torch::cross_entropy_loss(logits, labels, {}, at::Reduction::None), 1e-4, 1e-5));
  {
    const torch::NoGradGuard no_grad;
    EXPECT_TRUE(target_loss(model, hidden, labels, /*each=*/true).losses.equal(found.losses));
  }
}

TEST_P(TargetLossTest, IsTheLogOfTheVocabularyForEqualLogits) {
  Decoder model = model_of(GetParam());
  const TargetLoss found = target_loss(model, torch::zeros({700, model->head_weight().size(1)}),
                                       torch::randint(GetParam(), {700}, torch::kLong));
  EXPECT_NEAR(found.mean.item<double>(), std::log(GetParam()), 1e-5);
}

TEST_P(TargetLossTest, KeepsNaN) {
  Decoder model = model_of(GetParam());
  const Tensor hidden = torch::full({700, model->head_weight().size(1)}, std::nan(""));
  EXPECT_TRUE(std::isnan(target_loss(model, hidden, torch::zeros({700}, torch::kLong)).mean.item<double>()));
}

INSTANTIATE_TEST_SUITE_P(Vocabulary, TargetLossTest, testing::Values(5'000, 20'000));

}  // namespace
}  // namespace klab

// SPDX-License-Identifier: Apache-2.0
#include "core/train/adamw.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace klab {
namespace {

struct Pair : torch::nn::Module {
  Pair()
      : matrix(register_parameter("matrix", torch::linspace(-1, 1, 12).view({3, 4}).clone())),
        vector(register_parameter("vector", torch::linspace(1, 2, 4).clone())) {}
  torch::Tensor loss() const { return torch::matmul(matrix, vector).square().sum(); }
  torch::Tensor matrix, vector;
};

// The update of Loshchilov and Hutter in float64.
void reference_step(torch::Tensor& x, torch::Tensor& m, torch::Tensor& v, const torch::Tensor& g, int step, double lr,
                    double decay, const AdamWOptions& o) {
  x = x * (1 - lr * decay);
  m = o.beta1 * m + (1 - o.beta1) * g;
  v = o.beta2 * v + (1 - o.beta2) * g * g;
  const auto m_hat = m / (1 - std::pow(o.beta1, step)), v_hat = v / (1 - std::pow(o.beta2, step));
  x = x - lr * m_hat / (v_hat.sqrt() + o.eps);
}

TEST(AdamW, FollowsThePaperAndDecaysMatricesOnly) {
  Pair module;
  const AdamWOptions options{.weight_decay = 0.5};  // large, so that a wrong group is detected
  AdamW adamw(module, options);
  torch::Tensor matrix = module.matrix.detach().to(torch::kDouble), vector = module.vector.detach().to(torch::kDouble);
  torch::Tensor mm = torch::zeros_like(matrix), mv = mm.clone(), vm = torch::zeros_like(vector), vv = vm.clone();
  for (int step = 1; step <= 20; ++step) {
    module.zero_grad();
    module.loss().backward();
    const auto gm = module.matrix.grad().to(torch::kDouble), gv = module.vector.grad().to(torch::kDouble);
    reference_step(matrix, mm, mv, gm, step, 0.01, 0.5, options);
    reference_step(vector, vm, vv, gv, step, 0.01, 0.0, options);
    adamw.step(0.01);
  }
  EXPECT_LT((module.matrix - matrix).abs().max().item<double>(), 2e-6);
  EXPECT_LT((module.vector - vector).abs().max().item<double>(), 2e-6);
}

TEST(AdamW, StateSharesStorageAndRestoresTheSameBits) {
  Pair first, second;
  AdamW a(first, {}), b(second, {});
  const auto advance = [](Pair& module, AdamW& adamw) {
    module.zero_grad();
    module.loss().backward();
    adamw.step(0.01);
  };
  for (int i = 0; i < 3; ++i) advance(first, a);
  {
    const torch::NoGradGuard no_grad;
    second.matrix.copy_(first.matrix);
    second.vector.copy_(first.vector);
    const auto from = a.state();
    for (auto& [name, tensor] : b.state()) tensor.copy_(from.at(name));
  }
  advance(first, a);
  advance(second, b);
  EXPECT_TRUE(torch::equal(first.matrix, second.matrix));
  EXPECT_TRUE(torch::equal(first.vector, second.vector));
}

}  // namespace
}  // namespace klab

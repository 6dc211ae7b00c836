#include "kernels/linear.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support.h"

namespace klab {
namespace {

// Shapes on either side of every choice that linear() makes, and views with strides of their own.
TEST(Linear, IsTheProductWhateverComputesIt) {
  for (const auto& [rows, K, N] :
       {std::tuple{3, 8, 5}, {40, 8, 1}, {40, 1, 8}, {64, 100, 60}, {200, 256, 171}, {200, 171, 256}}) {
    const at::Tensor x = at::randn({2, rows, K}), weight = at::randn({N, K}), d_y = at::randn({2, rows, N});
    const auto evaluate = [&](const at::Tensor& given_x, const at::Tensor& given_weight, const auto& product) {
      const at::Tensor a = given_x.detach().requires_grad_(), b = given_weight.detach().requires_grad_();
      const at::Tensor y = product(a, b);
      y.backward(d_y.to(y.scalar_type()));
      return NamedTensors{{"y", y.detach()}, {"d_x", a.grad()}, {"d_weight", b.grad()}};
    };
    const auto linear = [](const at::Tensor& a, const at::Tensor& b) { return kernels::linear(a, b); };
    const auto exact = [](const at::Tensor& a, const at::Tensor& b) { return at::linear(a, b); };
    const NamedTensors expected = evaluate(x.to(at::kDouble), weight.to(at::kDouble), exact);
    const Tolerance rounding = derived_tolerance({at::kFloat, at::kFloat, 2 * rows + K + N});
    const std::string shape = std::to_string(rows) + " x " + std::to_string(K) + " x " + std::to_string(N);
    expect_close(shape, evaluate(x, weight, linear), expected, rounding);
    const at::Tensor strided = at::stack({x, x + 1}, -1).select(-1, 0);
    expect_close(shape + ", strided", evaluate(strided, weight.t().contiguous().t(), linear), expected, rounding);
    expect_close(shape + ", float64", evaluate(x.to(at::kDouble), weight.to(at::kDouble), linear), expected, {});
    const at::NoGradGuard no_grad;
    expect_close(shape + ", without gradients", kernels::linear(x, weight), expected[0].tensor, rounding);
  }
}

TEST(Linear, SecondDerivativesAreRight) {
  const at::Tensor x = at::randn({40, 6}).requires_grad_(), weight = at::randn({5, 6}).requires_grad_();
  const at::Tensor d_x = torch::autograd::grad({kernels::linear(x, weight).square().sum()}, {x}, {}, true, true)[0];
  const at::Tensor d_weight = torch::autograd::grad({d_x.sum()}, {weight})[0];
  const at::Tensor other_d_x = torch::autograd::grad({at::linear(x, weight).square().sum()}, {x}, {}, true, true)[0];
  expect_close("d_weight", d_weight, torch::autograd::grad({other_d_x.sum()}, {weight})[0],
               derived_tolerance({at::kFloat, at::kFloat, 400}));
}

TEST(Linear, RefusesWrongArgumentsByName) {
  const at::Tensor x = at::ones({40, 6});
  expect_refused("linear", "weight has shape", [&] { kernels::linear(x, at::ones({5, 7})); });
  expect_refused("linear", "weight is missing", [&] { kernels::linear(x, at::Tensor()); });
  expect_refused("linear", "x must be", [&] { kernels::linear(at::Tensor(), x); });
  expect_refused("linear", "x has dtype", [&] { kernels::linear(x.to(at::kLong), x); });
}

}  // namespace
}  // namespace klab

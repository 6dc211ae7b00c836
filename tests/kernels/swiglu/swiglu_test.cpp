// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu/swiglu.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include <cmath>
#include <limits>

#include "core/check/matrix.h"
#include "kernels/common/support.h"

namespace klab {
namespace {

using kernels::Implementation;

constexpr Implementation kAll[] = {Implementation::automatic, Implementation::reference, Implementation::composed,
                                   Implementation::cpu};

NamedTensors inputs_of(const at::Tensor& gate, const at::Tensor& up) { return {{"gate", gate}, {"up", up}}; }

NamedFunction swiglu(Implementation implementation) { return runner(operator_case("swiglu"), implementation); }

// y, d_gate and d_up of a loss sum(d_y y), element by element.
TEST(Swiglu, IsWhatPlainLoopsCompute) {
  const at::Tensor gate = at::randn({5, 7}, at::kDouble) * 3, up = at::randn({5, 7}, at::kDouble);
  const at::Tensor a = gate.detach().clone().requires_grad_(), b = up.detach().clone().requires_grad_();
  const at::Tensor d_y = at::randn({5, 7}, at::kDouble), y = kernels::swiglu(a, b);
  y.backward(d_y);
  at::Tensor expected_y = at::empty_like(y), d_gate = at::empty_like(y), d_up = at::empty_like(y);
  for (int64_t i = 0; i < y.numel(); ++i) {
    const auto at_i = [&](const at::Tensor& x) -> double& { return x.data_ptr<double>()[i]; };
    const double z = at_i(gate), s = 1 / (1 + std::exp(-z));
    at_i(expected_y) = z * s * at_i(up);
    at_i(d_gate) = at_i(d_y) * at_i(up) * (s + z * s * (1 - s));
    at_i(d_up) = at_i(d_y) * z * s;
  }
  expect_close("y", y.detach(), expected_y, tight());
  expect_close("d_gate", a.grad(), d_gate, tight());
  expect_close("d_up", b.grad(), d_up, tight());
}

TEST(Swiglu, EveryWorkloadHoldsTheDerivedTolerance) {
  const std::vector<CheckRow> rows = run_matrix({.operators = "swiglu"});
  EXPECT_GT(rows.size(), 0U);
  for (const CheckRow& row : rows) {
    EXPECT_TRUE(row.pass) << row.implementation << " " << row.dtype << " " << row.workload << "\n" << row.message;
  }
}

// It rounds silu(gate) too.
TEST(Swiglu, TheComposedFormIsRoundedOnceMore) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const NamedTensors in = inputs_of((2 * at::randn({63, 61})).to(dtype), at::randn({63, 61}).to(dtype));
    const NamedTensors exact = inputs_of(find(in, "gate").to(at::kDouble), find(in, "up").to(at::kDouble));
    expect_close("composed", evaluate(swiglu(Implementation::composed), in),
                 evaluate(swiglu(Implementation::reference), exact),
                 derived_tolerance({.sums = dtype, .result = dtype, .terms = 4, .gradient = true}));
  }
}

// Around the vector lengths and the blocks of the kernel, from 0 rows to several tasks.
TEST(Swiglu, TakesAnyNumberOfElements) {
  for (const int64_t count : {0, 1, 3, 15, 16, 17, 511, 512, 513, 65535, 65536, 65537, 131075}) {
    const NamedTensors in = inputs_of(at::randn({count, 1}), at::randn({count, 1}));
    const NamedTensors exact = inputs_of(find(in, "gate").to(at::kDouble), find(in, "up").to(at::kDouble));
    const Tolerance rounding =
        derived_tolerance({.sums = at::kFloat, .result = at::kFloat, .terms = 2, .gradient = true, .elements = count});
    const NamedTensors results = evaluate(swiglu(Implementation::cpu), in);
    ASSERT_EQ(find(results, "y").sizes(), at::IntArrayRef({count, 1}));
    expect_close(std::to_string(count), results, evaluate(swiglu(Implementation::reference), exact), rounding);
  }
  for (const Implementation implementation : kAll) {
    EXPECT_EQ(kernels::swiglu(at::ones({3, 0, 5}), at::ones({3, 0, 5}), implementation).sizes(),
              at::IntArrayRef({3, 0, 5}));
  }
}

TEST(Swiglu, InputsAndGradientsMayLieAnywhereInMemory) {
  const at::Tensor gate = at::randn({2, 9, 21}), up = at::randn({2, 9, 21}), d_y = at::randn({21});
  const auto evaluate_on = [&](const at::Tensor& given_gate, const at::Tensor& given_up, const at::Tensor& given_d_y) {
    const at::Tensor a = given_gate.detach().requires_grad_(), b = given_up.detach().requires_grad_();
    const at::Tensor y = kernels::swiglu(a, b, Implementation::cpu);
    y.backward(given_d_y);
    return NamedTensors{{"y", y.detach()}, {"d_gate", a.grad()}, {"d_up", b.grad()}};
  };
  const at::Tensor columns = at::cat({gate, up}, -1);
  expect_close("strided",
               evaluate_on(columns.narrow(-1, 0, 21), at::stack({up, up}, -1).select(-1, 0), d_y.expand({2, 9, 21})),
               evaluate_on(gate, up, d_y.expand({2, 9, 21}).contiguous()), Tolerance{});
  expect_close("transposed", kernels::swiglu(gate.transpose(0, 2), up.transpose(0, 2), Implementation::cpu),
               kernels::swiglu(gate, up, Implementation::cpu).transpose(0, 2), Tolerance{});
}

TEST(Swiglu, LargeGatesAreOpenOrClosed) {
  const at::Tensor gate = at::tensor({1e4F, -1e4F, 100.0F, -100.0F}), up = at::full({4}, 3.0F);
  for (const Implementation implementation : kAll) {
    const NamedTensors results = evaluate(swiglu(implementation), inputs_of(gate, up));
    for (const auto& [name, tensor] : results) EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
    EXPECT_TRUE(at::allclose(find(results, "y"), at::tensor({3e4F, 0.0F, 300.0F, 0.0F}), 1e-6, 1e-30));
  }
}

TEST(Swiglu, NaNComesThroughAndStaysInItsElement) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const char* name : {"gate", "up"}) {
      NamedTensors in = inputs_of(at::randn({3, 37}).to(dtype), at::randn({3, 37}).to(dtype));
      find(in, name)[1][20] = std::numeric_limits<float>::quiet_NaN();
      const NamedTensors results = evaluate(swiglu(Implementation::cpu), in);
      for (const char* result : {"y", "d_gate"}) {
        const at::Tensor wrong = at::isnan(find(results, result));
        EXPECT_TRUE(wrong[1][20].item<bool>()) << name << " " << result << " " << dtype;
        EXPECT_EQ(wrong.sum().item<int64_t>(), 1) << name << " " << result << " " << dtype;
      }
      EXPECT_EQ(at::isnan(find(results, "d_up")).sum().item<int64_t>(), std::string(name) == "gate" ? 1 : 0);
    }
  }
}

TEST(Swiglu, OnlyOneInputMayNeedAGradient) {
  const at::Tensor gate = at::randn({4, 6}), up = at::randn({4, 6}).requires_grad_();
  kernels::swiglu(gate, up).sum().backward();
  EXPECT_FALSE(gate.grad().defined());
  expect_close("d_up", up.grad(), at::silu(gate), derived_tolerance({at::kFloat, at::kFloat, 2}));
}

TEST(Swiglu, TheReferenceAndTheComposedFormHaveSecondDerivatives) {
  const auto second = [](const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& function) {
    const at::Tensor gate = at::linspace(-3, 3, 12, at::kDouble).requires_grad_();
    const at::Tensor up = at::linspace(1, 2, 12, at::kDouble).requires_grad_();
    const at::Tensor first = torch::autograd::grad({function(gate, up).square().sum()}, {gate}, {}, true, true)[0];
    return torch::autograd::grad({first.sum()}, {up})[0];
  };
  const at::Tensor expected = second([](const auto& gate, const auto& up) { return gate * at::sigmoid(gate) * up; });
  for (const Implementation form : {Implementation::reference, Implementation::composed}) {
    expect_close("second", second([&](const auto& gate, const auto& up) { return kernels::swiglu(gate, up, form); }),
                 expected, tight());
  }
}

TEST(Swiglu, RefusesWrongArgumentsByName) {
  const at::Tensor x = at::ones({2, 4});
  expect_refused("swiglu", "gate is missing", [&] { kernels::swiglu({}, x); });
  expect_refused("swiglu", "up is missing", [&] { kernels::swiglu(x, {}); });
  expect_refused("swiglu", "gate has dtype", [&] { kernels::swiglu(x.to(at::kLong), x); });
  expect_refused("swiglu", "up has shape", [&] { kernels::swiglu(x, at::ones({2, 3})); });
  expect_refused("swiglu", "up has dtype", [&] { kernels::swiglu(x, x.to(at::kBFloat16)); });
  EXPECT_THROW(kernels::swiglu(x, x, Implementation::cuda), c10::NotImplementedError);
  EXPECT_THROW(kernels::swiglu(x, x, Implementation::chunk), c10::NotImplementedError);
  EXPECT_THROW(kernels::swiglu(x.to(at::kDouble), x.to(at::kDouble), Implementation::cpu), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab

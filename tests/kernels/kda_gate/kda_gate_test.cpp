// SPDX-License-Identifier: Apache-2.0
#include "kernels/kda_gate/kda_gate.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/inputs.h"
#include "core/check/matrix.h"
#include "kernels/common/support.h"
#include "kernels/recurrence/oracle.h"

namespace klab {
namespace {

using kernels::Implementation;

TEST(KdaGate, IsWhatPlainLoopsCompute) {
  for (const double lower_bound : {0.0, -5.0}) {
    const OperatorCase& gate = operator_case(lower_bound < 0 ? "kda_gate/lower_bound" : "kda_gate/softplus");
    for (const Workload& workload : gate.workloads) {
      const NamedTensors in = gate.inputs(workload, 1);
      expect_close(workload.name, forward(runner(gate, Implementation::reference), in),
                   kda_gate_oracle(in, lower_bound), tight());
    }
  }
}

TEST(KdaGate, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const CheckRow& row : run_matrix({.operators = "kda_gate"})) {
    EXPECT_TRUE(row.pass) << row.operator_name << " " << row.dtype << " " << row.workload << "\n" << row.message;
  }
}

// Raw values and rates that make exp overflow or log lose its argument in naive formulas.
NamedTensors extremes(at::ScalarType dtype) {
  const at::Tensor raw = at::cat({at::linspace(-1000, 1000, 4001, at::kDouble), at::linspace(-1, 1, 41, at::kDouble),
                                  at::tensor({-0.0, 1e-30, -1e-30}, at::kDouble)});
  const at::Tensor A_log = at::tensor({-20.0, 0.0, std::log(16.0), 20.0}, at::kDouble);
  return {{"raw", raw.view({1, -1, 1, 1}).expand({1, raw.numel(), 4, 1}).to(dtype).contiguous()},
          {"A_log", A_log.to(dtype)},
          {"dt_bias", at::zeros({4}, dtype)}};
}

TEST(KdaGate, ExtremesStayFiniteExactAndWithinTheirRange) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const double lower_bound : {0.0, -5.0, -0.5}) {
      const NamedFunction run = [&](const NamedTensors& in) -> NamedTensors {
        const auto bound = lower_bound < 0 ? std::optional(lower_bound) : std::nullopt;
        return {{"g", kernels::kda_gate(find(in, "raw"), find(in, "A_log"), find(in, "dt_bias"), bound)}};
      };
      const NamedTensors in = extremes(dtype), out = evaluate(run, in);
      for (const auto& [name, tensor] : out) EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
      const at::Tensor g = find(out, "g"), expected = find(kda_gate_oracle(in, lower_bound), "g");
      EXPECT_LE(g.max().item<double>(), 0);
      EXPECT_TRUE(lower_bound == 0 || g.min().item<double>() >= lower_bound);
      for (int64_t h = 0; h < 4; ++h) {
        expect_close("head " + std::to_string(h), g.select(2, h), expected.select(2, h),
                     derived_tolerance({dtype, dtype, 2, 20}));  // exp amplifies rounding errors by |A_log| <= 20
      }
    }
  }
}

TEST(KdaGate, ATailKeepsItsRelativePrecision) {
  // softplus(-40) = exp(-40): log(1 + exp(-40)) would be zero in float32 and inaccurate in float64.
  const at::Tensor raw = at::full({1, 1, 1, 1}, -40.0, at::kDouble), A_log = at::zeros({1}, at::kDouble);
  EXPECT_NEAR(kernels::kda_gate(raw, A_log, {}).item<double>() / -std::exp(-40.0), 1, 1e-14);
  const at::Tensor narrow = kernels::kda_gate(raw.to(at::kFloat), A_log.to(at::kFloat), {});
  EXPECT_NEAR(narrow.item<double>() / -std::exp(-40.0), 1, 1e-5);
}

TEST(KdaGate, TheDerivativeAtZeroIsOneHalf) {
  const at::Tensor raw = at::zeros({1, 1, 1, 1}, at::kDouble).requires_grad_();
  kernels::kda_gate(raw, at::zeros({1}, at::kDouble), {}).sum().backward();
  EXPECT_EQ(raw.grad().item<double>(), -0.5);
}

TEST(KdaGate, ALowerBoundRescalesAndDoesNotClamp) {
  const at::Tensor raw = at::zeros({1, 1, 1, 1}, at::kDouble);
  EXPECT_EQ(kernels::kda_gate(raw, {}, {}, -5.0).item<double>(), -2.5);
  EXPECT_NEAR(kernels::kda_gate(raw + 1, {}, {}, -5.0).item<double>(), -5 / (1 + std::exp(-1.0)), 1e-15);
}

TEST(KdaGate, OneScalarPerHeadIsOneChannelPerHead) {
  at::Generator generator = seeded_generator(5);
  const at::Tensor raw = normal({2, 7, 3}, generator), A_log = normal({3}, generator);
  const at::Tensor dt_bias = normal({3}, generator);
  expect_close("g", kernels::kda_gate(raw, A_log, dt_bias),
               kernels::kda_gate(raw.unsqueeze(-1), A_log, dt_bias).squeeze(-1), {});
}

TEST(KdaGate, TheResultIsInFloatForNarrowInputs) {
  const at::Tensor raw = at::ones({1, 2, 3, 4}), A_log = at::zeros({3});
  for (const auto dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
    EXPECT_EQ(kernels::kda_gate(raw.to(dtype), A_log, {}).scalar_type(), at::kFloat);
  }
  const at::Tensor wide = at::full({1, 1, 1}, 1 + 0x1p-40, at::kDouble);
  const double g = kernels::kda_gate(wide, at::zeros({1}, at::kDouble), {}).item<double>();
  EXPECT_NE(g, kernels::kda_gate(at::ones_like(wide), at::zeros({1}, at::kDouble), {}).item<double>());
}

TEST(KdaGate, RefusesWrongArgumentsByName) {
  const at::Tensor raw = at::ones({1, 2, 3, 4}), A_log = at::ones({3}), bias = at::ones({12});
  const auto call = [](const at::Tensor& r, const at::Tensor& A, const at::Tensor& b,
                       std::optional<double> lower_bound = std::nullopt) {
    return [=] { kernels::kda_gate(r, A, b, lower_bound); };
  };
  EXPECT_NO_THROW(call(raw, A_log, bias)());
  expect_refused("kda_gate", "raw", call({}, A_log, bias));
  expect_refused("kda_gate", "raw", call(at::ones({2, 3}), A_log, bias));
  expect_refused("kda_gate", "raw has dtype", call(raw.to(at::kLong), A_log, bias));
  expect_refused("kda_gate", "A_log is missing", call(raw, {}, bias));
  expect_refused("kda_gate", "A_log has shape", call(raw, at::ones({4}), bias));
  expect_refused("kda_gate", "A_log has dtype", call(raw, A_log.to(at::kInt), bias));
  expect_refused("kda_gate", "dt_bias has shape", call(raw, A_log, at::ones({3})));
  expect_refused("kda_gate", "dt_bias has shape", call(raw, A_log, at::ones({3, 4})));
  for (const double lower_bound : {0.0, 1.0, -5.1, -kInfinity, std::nan("")}) {
    expect_refused("kda_gate", "lower_bound", call(raw, A_log, bias, lower_bound));
  }
}

}  // namespace
}  // namespace klab

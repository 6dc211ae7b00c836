// SPDX-License-Identifier: Apache-2.0
// Each implementation against a simpler one, forward and backward: plain loops, the reference in float64, the reference
// in float32, the chunk form.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/inputs.h"
#include "core/check/matrix.h"
#include "kernels/common/support.h"
#include "kernels/recurrence/oracle.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using kernels::Implementation;

class RecurrenceLadder : public testing::TestWithParam<OperatorCase> {};

// Both sum over up to 165 tokens in float64, in different orders.
TEST_P(RecurrenceLadder, ReferenceIsWhatPlainLoopsCompute) {
  for (const Workload& workload : GetParam().workloads) {
    if (workload.T > 200) continue;
    const NamedTensors in = GetParam().inputs(workload, 1);
    expect_close(workload.name, forward(runner(GetParam(), Implementation::reference), in), recurrence_oracle(in),
                 tight());
  }
}

TEST_P(RecurrenceLadder, GradientsAreThoseOfFiniteDifferences) {
  constexpr double kStep = 1e-5;
  const Workload small{"small", 1, 4, 1, 2, 3, 2, true, Gates::ordinary, true};
  const NamedTensors in = GetParam().inputs(small, 2);
  for (const Implementation implementation : {Implementation::reference, Implementation::chunk}) {
    const NamedFunction function = runner(GetParam(), implementation);
    const NamedTensors weights = loss_weights(forward(function, in), at::kDouble, 3);
    const auto loss = [&](const NamedTensors& at_point) {
      double sum = 0;
      for (const auto& [name, tensor] : forward(function, at_point)) {
        sum += (tensor * find(weights, name)).sum().item<double>();
      }
      return sum;
    };
    const NamedTensors gradients = forward_and_backward(function, in, weights);
    for (const auto& [name, tensor] : in) {
      if (!tensor.is_floating_point()) continue;
      at::Tensor expected = at::zeros_like(tensor).view({-1});
      for (int64_t i = 0; i < tensor.numel(); ++i) {
        const auto moved = [&](double step) {
          const at::Tensor copy = tensor.clone();
          copy.view({-1})[i] += step;
          return loss(with(in, name, copy));
        };
        expected[i] = (moved(kStep) - moved(-kStep)) / (2 * kStep);
      }
      // The error of the difference is kStep^2 times a third derivative plus the loss's rounding error / kStep.
      expect_close(to_string(implementation) + " d_" + name, find(gradients, "d_" + name),
                   expected.view(tensor.sizes()), tight(1e-8));
    }
  }
}

TEST_P(RecurrenceLadder, EveryWorkloadInEveryFormHoldsTheDerivedTolerance) {
  const std::vector<CheckRow> rows = run_matrix({.operators = GetParam().name, .dtypes = {at::kDouble, at::kFloat}});
  // Float32 for all forms; float64 for forms that support it and are not the definition.
  size_t cells = 0;
  for (const Form& form : GetParam().forms) {
    if (form.on_cpu) cells += form.in_float64 && !form.is_definition ? 2 : 1;
  }
  EXPECT_EQ(rows.size(), cells * GetParam().workloads.size());
  for (const CheckRow& row : rows) {
    EXPECT_TRUE(row.pass) << row.implementation << " " << row.dtype << " " << row.workload << "\n" << row.message;
  }
}

TEST_P(RecurrenceLadder, NarrowInputsAreComputedInFloatAndRoundedOnce) {
  const MatrixFilter narrow{.operators = GetParam().name, .dtypes = {at::kBFloat16, at::kHalf}, .quick = true};
  for (const CheckRow& row : run_matrix(narrow)) {
    EXPECT_TRUE(row.pass) << row.implementation << " " << row.dtype << " " << row.workload << "\n" << row.message;
  }
}

std::string name_of(const testing::TestParamInfo<OperatorCase>& info) {
  std::string name = info.param.name.substr(std::string("recurrence/").size());
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Family, RecurrenceLadder, testing::ValuesIn(recurrence_cases()), name_of);

TEST(Recurrence, DoubleInputsAreComputedInDouble) {
  // 1 + 2^-40 is 1 in float32.
  kernels::RecurrenceInputs in;
  in.q = in.k = at::ones({1, 1, 1, 1}, at::kDouble);
  in.v = at::full({1, 1, 1, 1}, 1 + 0x1p-40, at::kDouble);
  in.scale = 1;
  for (const Implementation implementation : on_cpu(kernels::recurrence_implementations())) {
    if (implementation == Implementation::cpu) continue;  // refuses float64
    const kernels::RecurrenceOutputs out = kernels::recurrence(in, implementation);
    EXPECT_EQ(out.o.item<double>() - 1, 0x1p-40) << to_string(implementation);
    EXPECT_EQ(out.final_state.item<double>() - 1, 0x1p-40) << to_string(implementation);
  }
}

TEST(Recurrence, OutputsHaveThePromisedDtypes) {
  const OperatorCase& kda = operator_case("recurrence/channel/delta");
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const NamedTensors in = copy_as(kda, kda.inputs(kda.workloads[0], 1), dtype, at::kCPU);
    for (const Form& form : kda.forms) {
      if (!form.on_cpu || (dtype == at::kDouble && !form.in_float64)) continue;
      const NamedTensors out = forward(runner(kda, form.implementation), in);
      EXPECT_EQ(find(out, "o").scalar_type(), dtype);
      EXPECT_EQ(find(out, "final_state").scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    }
  }
}

TEST(Recurrence, ErrorDoesNotGrowAlongALongSequence) {
  const OperatorCase& kda = operator_case("recurrence/channel/delta");
  const int64_t T = 4096, window = 512;
  const Workload workload{"long", 1, T, 1, 1, 64, 64};
  const NamedTensors in = copy_as(kda, kda.inputs(workload, 4), at::kFloat, at::kCPU);
  const NamedTensors exact = copy_as(kda, in, at::kDouble, at::kCPU);
  const NamedFunction chunk = runner(kda, Implementation::chunk);
  const at::Tensor actual = find(forward(chunk, in), "o"), expected = find(forward(chunk, exact), "o");
  for (int64_t t = 0; t < T; t += window) {
    expect_close("from " + std::to_string(t), actual.narrow(1, t, window), expected.narrow(1, t, window),
                 derived_tolerance({at::kFloat, at::kFloat, window}));
  }
}

}  // namespace
}  // namespace klab

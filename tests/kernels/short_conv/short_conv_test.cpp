// SPDX-License-Identifier: Apache-2.0
#include "kernels/short_conv/short_conv.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/matrix.h"
#include "kernels/common/support.h"
#include "kernels/recurrence/oracle.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::ShortConvInputs;

// The implementations that support float64. The check matrix compares the CPU kernel with them.
constexpr Implementation kForms[] = {Implementation::reference, Implementation::composed};

TEST(ShortConv, IsWhatPlainLoopsCompute) {
  const OperatorCase& conv = operator_case("short_conv");
  for (const Workload& workload : conv.workloads) {
    const NamedTensors in = conv.inputs(workload, 1);
    for (const Implementation form : kForms) {
      expect_close(workload.name, find(forward(runner(conv, form), in), "y"), find(short_conv_oracle(in), "y"),
                   tight());
    }
  }
}

TEST(ShortConv, EveryWorkloadInEveryFormHoldsTheDerivedTolerance) {
  for (const CheckRow& row : run_matrix({.operators = "short_conv"})) {
    EXPECT_TRUE(row.pass) << row.operator_name << " " << row.implementation << " " << row.dtype << " " << row.workload
                          << "\n"
                          << row.message;
  }
}

TEST(ShortConv, PackedSequencesAreTheSequencesOneByOne) {
  const OperatorCase& conv = operator_case("short_conv/silu");
  const Workload packed{"", 1, 40, 1, 1, 6, 6, true, Gates::ordinary, true, {0, 1, 3, 40}};
  const NamedTensors in = conv.inputs(packed, 2);
  for (const Implementation form : kForms) {
    const NamedTensors whole = forward(runner(conv, form), in);
    for (int64_t n = 0; n < packed.sequences(); ++n) {
      const int64_t first = packed.offsets[static_cast<size_t>(n)];
      const int64_t count = packed.offsets[static_cast<size_t>(n) + 1] - first;
      NamedTensors one = without(with(in, "x", find(in, "x").narrow(1, first, count)), "cu_seqlens");
      one = with(one, "initial_state", find(in, "initial_state").narrow(0, n, 1));
      const NamedTensors expected = forward(runner(conv, form), one);
      expect_close("y", find(whole, "y").narrow(1, first, count), find(expected, "y"), tight());
      expect_close("state", find(whole, "final_state").narrow(0, n, 1), find(expected, "final_state"), {});
    }
  }
}

TEST(ShortConv, CuttingASequenceAnywhereChangesNothing) {
  const OperatorCase& conv = operator_case("short_conv");
  const NamedTensors in = conv.inputs({"", 2, 12, 1, 1, 6, 6, true, Gates::ordinary, true}, 3);
  for (const Implementation form : kForms) {
    const NamedTensors whole = forward(runner(conv, form), in);
    for (int64_t cut = 1; cut < 12; ++cut) {
      const at::Tensor x = find(in, "x");
      const NamedTensors left = forward(runner(conv, form), with(in, "x", x.narrow(1, 0, cut)));
      const NamedTensors rest = with(in, "x", x.narrow(1, cut, 12 - cut));
      const NamedTensors right = forward(runner(conv, form), with(rest, "initial_state", find(left, "final_state")));
      expect_close("y", at::cat({find(left, "y"), find(right, "y")}, 1), find(whole, "y"), tight());
      expect_close("state", find(right, "final_state"), find(whole, "final_state"), {});
    }
  }
}

TEST(ShortConv, TheStateIsTheLastRawInputsOldestFirst) {
  const at::Tensor x = at::arange(10, at::kDouble).view({1, 5, 2});
  const ShortConvInputs in{x, at::ones({2, 4}, at::kDouble), {}, "silu", {}, {}};
  expect_close("state", kernels::short_conv(in).final_state, x.narrow(1, 2, 3).clone(), {});
}

// A state is kept during the whole decode, so it must not keep the memory of the prompt alive.
TEST(ShortConv, TheStateHoldsNoMoreMemoryThanItNeeds) {
  const ShortConvInputs in{at::ones({1, 500, 8}), at::ones({8, 4}), {}, "", {}, {}};
  for (const Implementation form : on_cpu(kernels::short_conv_implementations())) {
    const at::Tensor state = kernels::short_conv(in, form).final_state;
    EXPECT_EQ(state.storage().nbytes(), state.nbytes());
  }
}

TEST(ShortConv, APrefixDoesNotDependOnWhatFollows) {
  const OperatorCase& conv = operator_case("short_conv/silu");
  const NamedTensors in = copy_as(conv, conv.inputs({"", 1, 50, 1, 1, 33, 33}, 4), at::kFloat, at::kCPU);
  const at::Tensor changed = find(in, "x").clone();
  changed.narrow(1, 20, 30).mul_(-3);
  for (const Implementation form : on_cpu(kernels::short_conv_implementations())) {
    const at::Tensor past = find(forward(runner(conv, form), in), "y").narrow(1, 0, 20);
    const at::Tensor other = find(forward(runner(conv, form), with(in, "x", changed)), "y").narrow(1, 0, 20);
    expect_close("past", other, past, {});
  }
}

TEST(ShortConv, DoubleInputsAreComputedInDouble) {
  const at::Tensor x = at::full({1, 1, 1}, 1 + 0x1p-40, at::kDouble);
  const ShortConvInputs in{x, at::ones({1, 4}, at::kDouble), {}, "", {}, {}};
  EXPECT_EQ(kernels::short_conv(in).y.item<double>(), 1 + 0x1p-40);
  EXPECT_EQ(kernels::short_conv(in, Implementation::reference).y.item<double>(), 1 + 0x1p-40);
}

TEST(ShortConv, AnyWidthFromOneTapOn) {
  for (const int64_t W : {1, 2, 3, 7}) {
    const NamedTensors in{{"x", at::randn({2, 5, 3}, at::kDouble)}, {"weight", at::randn({3, W}, at::kDouble)}};
    const ShortConvInputs inputs{find(in, "x"), find(in, "weight"), {}, "", {}, {}};
    const at::Tensor expected = find(short_conv_oracle(in), "y");
    expect_close("taps", kernels::short_conv(inputs, Implementation::reference).y, expected, tight());
    expect_close("conv1d", kernels::short_conv(inputs).y, expected, tight());
    const ShortConvInputs narrow{find(in, "x").to(at::kFloat), find(in, "weight").to(at::kFloat), {}, "", {}, {}};
    expect_close("cpu", kernels::short_conv(narrow, Implementation::cpu).y, expected,
                 derived_tolerance({.sums = at::kFloat, .result = at::kFloat, .terms = W}));
    EXPECT_EQ(kernels::short_conv(inputs).final_state.sizes(), (std::vector<int64_t>{2, W - 1, 3}));
  }
}

TEST(ShortConv, ParametersMayBeWiderThanTheInputs) {
  const ShortConvInputs in{at::ones({1, 3, 2}, at::kBFloat16), at::ones({2, 4}), at::ones({2}), "silu", {}, {}};
  EXPECT_EQ(kernels::short_conv(in).y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(kernels::short_conv(in, Implementation::reference).y.scalar_type(), at::kBFloat16);
}

void expect_refused_after(const std::string& argument, const std::function<void(ShortConvInputs&)>& change) {
  ShortConvInputs in{at::ones({1, 5, 2}), at::ones({2, 4}), at::ones({2}), "silu", at::ones({1, 3, 2}), {}};
  EXPECT_NO_THROW(kernels::short_conv(in));
  change(in);
  expect_refused("short_conv", argument, [&] { kernels::short_conv(in); });
  expect_refused("short_conv", argument, [&] { kernels::short_conv(in, Implementation::reference); });
}

TEST(ShortConv, RefusesWrongArgumentsByName) {
  expect_refused_after("x must be", [](auto& in) { in.x = at::Tensor(); });
  expect_refused_after("x must be", [](auto& in) { in.x = at::ones({5, 2}); });
  expect_refused_after("x has dtype", [](auto& in) { in.x = in.x.to(at::kLong); });
  expect_refused_after("at least one token", [](auto& in) { in.x = at::ones({1, 0, 2}); });
  expect_refused_after("weight is missing", [](auto& in) { in.weight = at::Tensor(); });
  expect_refused_after("weight has shape", [](auto& in) { in.weight = at::ones({3, 4}); });
  expect_refused_after("weight has shape", [](auto& in) { in.weight = at::ones({2, 1, 4}); });
  expect_refused_after("weight", [](auto& in) { in.weight = at::ones({2, 0}); });
  expect_refused_after("bias has shape", [](auto& in) { in.bias = at::ones({3}); });
  expect_refused_after("activation 'relu'", [](auto& in) { in.activation = "relu"; });
  expect_refused_after("initial_state has shape", [](auto& in) { in.initial_state = at::ones({1, 2, 2}); });
  expect_refused_after("cu_seqlens must rise", [](auto& in) { in.cu_seqlens = at::tensor({0, 3, 3, 5}, at::kLong); });
  expect_refused_after("cu_seqlens must run", [](auto& in) { in.cu_seqlens = at::tensor({0, 4}, at::kLong); });
}

}  // namespace
}  // namespace klab

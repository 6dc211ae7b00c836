// SPDX-License-Identifier: Apache-2.0
// Further guarantees of the hand-written CPU kernels: results are bitwise the same on any number of threads, and within
// the tolerance with every instruction set.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include "core/check/matrix.h"
#include "kernels/common/support.h"

namespace klab {
namespace {

using kernels::Implementation;

constexpr const char* kOperators[] = {
    "recurrence/none/accumulate",   "recurrence/scalar/delta", "recurrence/channel/delta", "recurrence/channel/dplr",
    "recurrence/raw/channel/delta", "short_conv/silu",         "gated_rms_norm/swish",     "swiglu"};

class CpuKernels : public testing::TestWithParam<const char*> {
 protected:
  const OperatorCase& op_ = operator_case(GetParam());
  NamedFunction run() const { return runner(op_, Implementation::cpu); }
  NamedTensors inputs(const Workload& workload) const {
    return copy_as(op_, op_.inputs(workload, 31), at::kFloat, at::kCPU);
  }
};

std::string name_of(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Operators, CpuKernels, testing::ValuesIn(kOperators), name_of);

// Includes few heads with large V, for which the work is split over the columns of V.
TEST_P(CpuKernels, TheNumberOfThreadsDoesNotChangeABit) {
  const Workload workloads[] = {
      {"many heads", 3, 130, 2, 6, 20, 24, true, Gates::ordinary, true},
      {"one head", 1, 90, 1, 1, 40, 200, true, Gates::ordinary, true},
      {"packed", 1, 165, 1, 2, 16, 24, true, Gates::ordinary, true, {0, 15, 16, 100, 165}},
      {"one token", 2, 1, 1, 3, 16, 48, true, Gates::ordinary, true},
      // Split among the threads, in several windows:
      {"one long head", 1, 1300, 1, 1, 24, 72, true, Gates::ordinary, true},
      {"packed and long", 1, 700, 1, 1, 16, 40, true, Gates::ordinary, true, {0, 450, 455, 700}},
  };
  for (const Workload& workload : workloads) {
    const NamedTensors in = inputs(workload);
    const Threads one(1);
    const NamedTensors expected = evaluate(run(), in), expected_without_gradients = forward(run(), in);
    for (const int count : {2, 7}) {
      const Threads more(count);
      const std::string what = workload.name + " on " + std::to_string(count) + " threads";
      expect_close(what, evaluate(run(), in), expected, Tolerance{});
      expect_close(what, forward(run(), in), expected_without_gradients, Tolerance{});
    }
  }
}

// On a processor with AVX-512 this also tests the code for AVX2 and SSSE3.
TEST_P(CpuKernels, EveryInstructionSetHoldsTheDerivedTolerance) {
  int64_t tried = 0;
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSSE3, HWY_NEON}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    const MatrixFilter cpu{.operators = GetParam(), .implementation = "cpu", .quick = true};
    for (const CheckRow& row : run_matrix(cpu)) {
      EXPECT_TRUE(row.pass) << hwy::TargetName(target) << " " << row.dtype << " " << row.workload << "\n"
                            << row.message;
      ++tried;
    }
    hwy::SetSupportedTargetsForTest(0);
  }
  EXPECT_GT(tried, 0);
}

TEST_P(CpuKernels, RowsMayBeAnywhereInMemory) {
  const NamedTensors in = inputs({"", 2, 37, 1, 2, 20, 28, true, Gates::ordinary, true});
  NamedTensors strided;
  for (const auto& [name, tensor] : in) {
    // A view with larger row strides, or (v) with a strided last dimension.
    at::Tensor apart = tensor;
    if (tensor.dim() >= 3 && name != "initial_state") apart = at::stack({tensor, tensor + 1}, 2).select(2, 0);
    if (name == "v") apart = at::stack({tensor, tensor + 1}, -1).select(-1, 0);
    strided.push_back({name, apart});
  }
  expect_close("strided", evaluate(run(), strided), evaluate(run(), in), Tolerance{});
}

TEST_P(CpuKernels, NaNComesThrough) {
  NamedTensors in = inputs({"", 1, 37, 1, 1, 20, 28, true, Gates::ordinary, true});
  for (const char* name : {"q", "k", "g", "v", "beta", "a", "b", "x", "weight", "gate", "up"}) {
    if (!find(in, name).defined()) continue;
    const at::Tensor spoilt = find(in, name).clone();
    spoilt.view({-1})[spoilt.numel() / 2] = std::numeric_limits<float>::quiet_NaN();
    const at::Tensor y = forward(run(), with(in, name, spoilt))[0].tensor;
    EXPECT_TRUE(at::isnan(y).any().item<bool>()) << name;
    EXPECT_FALSE(at::isnan(forward(run(), in)[0].tensor).any().item<bool>());
  }
}

TEST_P(CpuKernels, RefusesASecondDerivativeInsteadOfGivingAWrongOne) {
  NamedTensors in = inputs({"", 1, 5, 1, 1, 8, 8});
  for (NamedTensor& input : in) {
    if (input.tensor.is_floating_point()) input.tensor.requires_grad_();
  }
  const at::Tensor y = run()(in)[0].tensor;
  const at::Tensor gradient =
      torch::autograd::grad({y.square().sum()}, {in[0].tensor}, {}, true, /*create_graph=*/true)[0];
  EXPECT_THROW(gradient.sum().backward(), c10::NotImplementedError);
}

// The expected result is the chunk form in float64.
TEST(CpuRecurrence, ErrorDoesNotGrowOverSixtyFiveThousandTokens) {
  const OperatorCase& kda = operator_case("recurrence/channel/delta");
  const int64_t T = 65536, window = 4096;
  const NamedTensors in = copy_as(kda, kda.inputs({"", 1, T, 1, 1, 32, 32}, 4), at::kFloat, at::kCPU);
  const NamedTensors exact = copy_as(kda, in, at::kDouble, at::kCPU);
  const at::Tensor actual = find(forward(runner(kda, Implementation::cpu), in), "o");
  const at::Tensor expected = find(forward(runner(kda, Implementation::chunk), exact), "o");
  for (int64_t t = 0; t < T; t += window) {
    expect_close("from " + std::to_string(t), actual.narrow(1, t, window), expected.narrow(1, t, window),
                 derived_tolerance({at::kFloat, at::kFloat, 512}));
  }
}

}  // namespace
}  // namespace klab

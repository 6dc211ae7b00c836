// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of the short convolution, emulated on the host.
#include "kernels/short_conv/short_conv.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "backend.h"
#include "core/check/compare.h"
#include "core/check/evaluate.h"
#include "kernels/common/cuda/cells.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::ShortConvInputs;

TEST(CudaShortConv, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const char* name : {"short_conv", "short_conv/silu"}) expect_cells_to_hold(name);
}

// More channels than a block, with a remainder; sequences shorter than the taps, within a run and across runs.
TEST(CudaShortConv, EverySizeHoldsTheDerivedTolerance) {
  const Workload packed{"packed", 1, 30, 1, 1, 5, 5, true, Gates::ordinary, true, {0, 1, 2, 7, 8, 16, 17, 29, 30}};
  expect_cells_to_hold("short_conv/silu", {{"many channels", 2, 9, 1, 1, 515, 515}, packed});
}

TEST(CudaShortConv, BarriersMatter) { expect_barriers_to_matter("short_conv", {"a few runs", 1, 70, 1, 1, 8, 8}); }

NamedTensors draw(int64_t W, bool everything) {
  NamedTensors in{{"x", at::randn({3, 11, 6})}, {"weight", at::randn({6, W})}};
  if (everything) in.push_back({"bias", at::randn({6}).to(at::kBFloat16)});
  if (everything) in.push_back({"initial_state", at::randn({3, W - 1, 6}).to(at::kHalf)});
  return in;
}

// Outputs and gradients.
NamedTensors run(const NamedTensors& in, Implementation implementation) {
  const NamedFunction function = [&](const NamedTensors& x) -> NamedTensors {
    const ShortConvInputs inputs{find(x, "x"), find(x, "weight"),        find(x, "bias"),
                                 "silu",       find(x, "initial_state"), {}};
    const kernels::ShortConvOutputs out = kernels::short_conv(inputs, implementation);
    return {{"y", out.y}, {"final_state", out.final_state}};
  };
  return forward_and_backward(function, in, loss_weights(forward(function, in), at::kFloat, 5));
}

TEST(CudaShortConv, AnyNumberOfTapsInAnyDtypesIsTheReference) {
  const EmulatedDevice device;
  for (int64_t W = 1; W <= 8; ++W) {
    for (const bool everything : {false, true}) {
      const NamedTensors in = draw(W, everything), actual = run(in, Implementation::cuda);
      for (const auto& [name, expected] : run(in, Implementation::reference)) {
        // Gradients of narrow parameters are rounded once.
        const double bound = expected.scalar_type() == at::kFloat ? 1e-5 : unit_roundoff(expected.scalar_type()) * 2;
        const Comparison compared = compare(find(actual, name), expected, {.of_element = bound, .of_rms = bound});
        EXPECT_TRUE(compared.pass) << W << " taps, " << name << "\n" << compared.message;
      }
    }
  }
}

// Empty sequences pad a batch to a fixed size, for a CUDA graph that is captured once.
TEST(CudaShortConv, EmptySequencesKeepTheirState) {
  const EmulatedDevice device;
  const at::Tensor offsets = at::tensor({0, 0, 3, 3, 8, 9, 9, 9}, at::kLong), x = at::randn({1, 9, 4});
  const at::Tensor state = at::randn({7, 2, 4}), weight = at::randn({4, 3}), y = at::empty_like(x);
  const at::Tensor final_state = at::full_like(state, 99);
  const auto rows = [](const at::Tensor& t, int64_t batch, int64_t token) {
    return kernels::Rows{t.data_ptr(), batch, token};
  };
  kernels::cuda::ShortConvProblem problem{1, 4, 3, {7, 9, offsets.data_ptr<int64_t>()}, rows(x, 36, 4)};
  problem.weight = rows(weight, 3, 0);
  problem.initial_state = rows(state, 8, 4);
  kernels::cuda::backend().short_conv_forward(problem, {y.data_ptr(), 36, 4}, {final_state.data_ptr(), 8, 4}, nullptr);
  for (const int64_t empty : {0, 2, 5, 6}) EXPECT_TRUE(at::equal(final_state[empty], state[empty])) << empty;
  EXPECT_TRUE(at::equal(final_state[1], x[0].narrow(0, 1, 2)));
  EXPECT_TRUE(at::equal(final_state[4], at::stack({state[4][1], x[0][8]})));
}

TEST(CudaShortConv, MoreTapsThanItTakesAreRefused) {
  const EmulatedDevice device;
  const ShortConvInputs in{at::ones({1, 3, 2}), at::ones({2, 9}), {}, "", {}, {}};
  EXPECT_THROW(kernels::short_conv(in, Implementation::cuda), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab

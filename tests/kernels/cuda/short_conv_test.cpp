// The CUDA kernels of the short convolution, emulated on the host.
#include "kernels/short_conv.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "cells.h"
#include "core/check/compare.h"
#include "core/check/evaluate.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::ShortConvInputs;

TEST(CudaShortConv, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const char* name : {"short_conv", "short_conv/silu"}) expect_cells_to_hold(name);
}

// More channels than a block has, and left-over ones; sequences shorter than the taps, in one run and across runs.
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

TEST(CudaShortConv, MoreTapsThanItTakesAreRefused) {
  const EmulatedDevice device;
  const ShortConvInputs in{at::ones({1, 3, 2}), at::ones({2, 9}), {}, "", {}, {}};
  EXPECT_THROW(kernels::short_conv(in, Implementation::cuda), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab

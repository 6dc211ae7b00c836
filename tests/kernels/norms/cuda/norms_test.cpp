// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of the norms, emulated on the host.
#include "kernels/norms/norms.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include "kernels/common/cuda/cells.h"

namespace klab {
namespace {

using kernels::Implementation;

// A row per warp, a row per block, and rows split into panels; widths that are and are not multiples of four.
const std::vector<Workload> kWidths{{"a warp", 1, 3, 1, 1, 256, 256},       {"one more", 1, 2, 2, 2, 257, 257},
                                    {"a block", 1, 3, 1, 1, 2304, 2304},    {"panels", 1, 2, 1, 1, 4100, 4100},
                                    {"odd panels", 1, 2, 1, 1, 4099, 4099}, {"one number", 1, 3, 1, 1, 1, 1}};

TEST(CudaNorms, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const char* name :
       {"l2norm", "rms_norm", "gated_rms_norm/sigmoid", "gated_rms_norm/swish", "gated_rms_norm/none"}) {
    expect_cells_to_hold(name);
  }
}

TEST(CudaNorms, EveryWidthHoldsTheDerivedTolerance) {
  for (const char* name : {"l2norm", "rms_norm", "gated_rms_norm/swish"}) expect_cells_to_hold(name, kWidths);
}

TEST(CudaNorms, BarriersMatter) {
  expect_barriers_to_matter("rms_norm", {"heads", 1, 30, 1, 1, 64, 64});
  expect_barriers_to_matter("l2norm", {"a block", 1, 3, 1, 1, 300, 300});
}

TEST(CudaNorms, GapsAndOddAddressesDoNotMatter) {
  const EmulatedDevice device;
  const at::Tensor wide = at::randn({5, 7, 33}), weight = at::randn({32});
  const at::Tensor x = wide.narrow(2, 1, 32), gate = at::randn({5, 32, 7}).transpose(1, 2);
  const auto run = [&](const at::Tensor& a, const at::Tensor& b, const at::Tensor& w) {
    return kernels::gated_rms_norm(a, w, b, "sigmoid", 1e-5, Implementation::cuda);
  };
  const at::Tensor expected = run(x.clone(), gate.contiguous(), weight);
  EXPECT_TRUE(at::equal(run(x, gate, weight), expected));
  const at::Tensor shifted = at::empty({x.numel() + 1}).narrow(0, 1, x.numel()).view(x.sizes());
  EXPECT_TRUE(at::equal(run(shifted.copy_(x), gate, weight), expected));
}

TEST(CudaNorms, RefusesWhatItCannotTake) {
  const EmulatedDevice device;
  const at::Tensor x = at::ones({2, 4}, at::kDouble), weight = at::ones({4}, at::kDouble);
  EXPECT_THROW(kernels::rms_norm(x, weight, 1e-5, Implementation::cuda), c10::NotImplementedError);
  const at::Tensor leaf = at::ones({2, 4}).requires_grad_();
  const at::Tensor y = kernels::l2norm(leaf, 1e-6, Implementation::cuda).sum();
  const at::Tensor gradient = torch::autograd::grad({y}, {leaf}, {}, std::nullopt, /*create_graph=*/true)[0];
  EXPECT_THROW(gradient.sum().backward(), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab

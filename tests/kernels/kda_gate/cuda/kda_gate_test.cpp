// SPDX-License-Identifier: Apache-2.0
// The CUDA kernel of the gate, emulated on the host.
#include "kernels/kda_gate/kda_gate.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "kernels/common/cuda/cells.h"

namespace klab {
namespace {

using kernels::Implementation;

TEST(CudaKdaGate, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const char* name : {"kda_gate/softplus", "kda_gate/lower_bound", "kda_gate/scalar"}) expect_cells_to_hold(name);
}

// More channels than a block, with a remainder; more tokens than the blocks process at once.
TEST(CudaKdaGate, EverySizeHoldsTheDerivedTolerance) {
  expect_cells_to_hold("kda_gate/softplus", {{"many channels", 1, 3, 9, 9, 61, 61}, {"one channel", 1, 2, 1, 1, 1, 1}});
  expect_cells_to_hold("kda_gate/scalar", {{"many tokens", 1, 3000, 3, 3, 1, 1}});
}

TEST(CudaKdaGate, BarriersMatter) {
  expect_barriers_to_matter("kda_gate/softplus", {"a few tokens", 1, 9, 2, 2, 12, 12});
}

TEST(CudaKdaGate, ParametersMayBeAbsent) {
  const EmulatedDevice device;
  const at::Tensor raw = at::randn({2, 3, 2, 5});
  const auto on = [&](Implementation implementation) { return kernels::kda_gate(raw, {}, {}, -5.0, implementation); };
  EXPECT_TRUE(at::allclose(on(Implementation::cuda), on(Implementation::reference), 1e-6, 1e-6));
  const at::Tensor leaf = raw.clone().requires_grad_(), A_log = at::zeros({2}).requires_grad_();
  kernels::kda_gate(leaf, A_log, {}, std::nullopt, Implementation::cuda).sum().backward();
  EXPECT_TRUE(at::allclose(leaf.grad(), -at::sigmoid(raw), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(A_log.grad(), -at::softplus(raw).sum({0, 1, 3}), 1e-5, 1e-5));
}

}  // namespace
}  // namespace klab

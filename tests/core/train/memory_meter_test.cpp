// SPDX-License-Identifier: Apache-2.0
#include "core/train/memory_meter.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <optional>

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kBytes = 1000 * sizeof(float);

Tensor thousand() { return torch::zeros({1000}, torch::kFloat); }

TEST(MemoryMeter, CountsTensorsOfItsLifetime) {
  const Tensor before = thousand();
  MemoryMeter meter;
  EXPECT_EQ(meter.live(), 0);
  std::optional<Tensor> a = thousand(), b = thousand();
  EXPECT_EQ(meter.live(), 2 * kBytes);
  a.reset();
  EXPECT_EQ(meter.live(), kBytes);
  EXPECT_EQ(meter.peak(), 2 * kBytes);
  meter.restart_peak();
  EXPECT_EQ(meter.peak(), kBytes);
}

TEST(MemoryMeter, CountsWhatTheBackwardPassTakes) {
  const Tensor x = thousand().requires_grad_();
  MemoryMeter meter;
  const Tensor y = x.exp();  // kept for the backward pass
  EXPECT_EQ(meter.live(), kBytes);
  y.backward(torch::ones_like(y));
  EXPECT_EQ(meter.live(), 2 * kBytes);  // y and the gradient
  EXPECT_GE(meter.peak(), 3 * kBytes);
}

TEST(MemoryMeter, NothingIsCountedAfterwards) {
  std::optional<MemoryMeter> meter(std::in_place);
  meter.reset();
  EXPECT_EQ(thousand().numel(), 1000);
}

}  // namespace
}  // namespace klab

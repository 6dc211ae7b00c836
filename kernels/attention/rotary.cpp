// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/rotary.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"

namespace klab::kernels {

using at::Tensor;

Tensor rotary(const Tensor& x, const Tensor& positions, double base) {
  constexpr const char* kOp = "rotary";
  TORCH_CHECK_VALUE(x.defined(), kOp, ": x is missing");
  check_tensor(kOp, "x", x, {-1, -1, -1, -1}, x);
  TORCH_CHECK_VALUE(x.size(3) % 2 == 0, kOp, ": K = ", x.size(3),
                    ", but pairs of channels are rotated: it must be even");
  TORCH_CHECK_VALUE(positions.defined() && positions.sizes() == x.sizes().slice(0, 2), kOp,
                    ": positions must be [B, T] as x has them");
  TORCH_CHECK_VALUE(base > 0, kOp, ": base = ", base, " must be positive");
  const int64_t half = x.size(3) / 2;
  const at::ScalarType wide = accumulation_type(x.scalar_type());
  // Angles in float64: at a position of a million, float32 would be off by a tenth of a radian.
  const Tensor rates = at::pow(base, at::arange(half, x.options().dtype(at::kDouble)) / -static_cast<double>(half));
  const Tensor angles = (positions.to(at::kDouble).unsqueeze(-1) * rates).unsqueeze(2);  // [B, T, 1, K / 2]
  const Tensor cos = angles.cos().to(wide), sin = angles.sin().to(wide);
  const Tensor first = x.narrow(3, 0, half).to(wide), second = x.narrow(3, half, half).to(wide);
  return at::cat({first * cos - second * sin, second * cos + first * sin}, -1).to(x.scalar_type());
}

}  // namespace klab::kernels

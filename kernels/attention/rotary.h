// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/common/export.h"

namespace klab::kernels {

/// Rotates channel pair (i, i + K / 2) of x [B, T, H, K] by the angle position * base^(-2 i / K), K even; positions
/// [B, T] int64. Computed in float32 (float64 for float64), rounded once; dtype of x. Differentiable in x. Su et al.
/// 2021, with pairs of channels from the two halves instead of adjacent ones. Throws c10::ValueError that names the
/// argument.
KLAB_API at::Tensor rotary(const at::Tensor& x, const at::Tensor& positions, double base = 10000);

}  // namespace klab::kernels

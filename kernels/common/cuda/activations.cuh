// SPDX-License-Identifier: Apache-2.0
// Scalar activation functions.
#pragma once

#include "kernels/common/cuda/platform.cuh"
#include "kernels/common/rows.h"

namespace klab::kernels::cuda {

/// In all functions, `kAccurate` is for float32 results; without it they are as accurate as 16-bit results need, with a
/// third of the instructions.
template <bool kAccurate = true>
__device__ __forceinline__ float exponential(float x) {
  constexpr float kLog2OfE = 1.4426950408889634f;
  return kAccurate ? expf(x) : approximate_exp2(x * kLog2OfE);
}
template <bool kAccurate = true>
__device__ __forceinline__ float sigmoid(float x) {
  return kAccurate ? 1.0f / (1.0f + expf(-x)) : __fdividef(1.0f, 1.0f + exponential<false>(-x));
}
template <bool kAccurate = true>
__device__ __forceinline__ float softplus(float x) {
  const float positive = x > 0.0f ? x : 0.0f, negative = x > 0.0f ? -x : x;
  return positive + (kAccurate ? log1pf(expf(negative)) : __logf(1.0f + exponential<false>(negative)));
}

/// `s` is the sigmoid of x.
__device__ __forceinline__ float silu_derivative(float x, float s) { return s * (1.0f + x * (1.0f - s)); }

}  // namespace klab::kernels::cuda

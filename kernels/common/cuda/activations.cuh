// SPDX-License-Identifier: Apache-2.0
// Scalar activation functions.
#pragma once

#include "kernels/common/cuda/platform.cuh"
#include "kernels/common/rows.h"

namespace klab::kernels::cuda {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1pf(expf(x > 0.0f ? -x : x)); }

/// Sigmoid as accurate as the dtype of the result needs: for 16-bit dtypes with a third of the instructions.
template <Dtype kDtype>
__device__ __forceinline__ float sigmoid_in(float x) {
  if constexpr (kDtype == Dtype::float32) return sigmoid(x);
  return __fdividef(1.0f, 1.0f + __expf(-x));
}

/// `s` is the sigmoid of x.
__device__ __forceinline__ float silu_derivative(float x, float s) { return s * (1.0f + x * (1.0f - s)); }

}  // namespace klab::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// The gate of kernels/kda_gate/kda_gate.h on CUDA. Takes plain pointers to device memory, without ATen. Neither
// synchronises nor allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels::cuda {

/// H heads with K channels each; K = 1 for one gate per head.
struct KdaGateProblem {
  int64_t tokens, H, K;
  const void* raw;       ///< [tokens, H, K], contiguous
  Dtype dtype;           ///< of raw
  const float* A_log;    ///< [H], or null for zeros
  const float* dt_bias;  ///< [H, K], or null for zeros
  bool bounded;          ///< lower_bound * sigmoid(exp(A_log) x), else -exp(A_log) softplus(x)
  float lower_bound;

  constexpr int64_t width() const { return H * K; }
};

/// g [tokens, H, K] in float32.
void kda_gate_forward(const KdaGateProblem& problem, float* g, void* stream);

/// From the gradient d_g [tokens, H, K] float32: d_raw in raw's dtype, and unless it is null `d_parameters` [2, H, K],
/// the gradient of dt_bias and then that of A_log per channel, which the caller sums over channels. `workspace`, needed
/// for d_parameters, has kda_gate_backward_workspace() bytes. Deterministic: bitwise the same in every run on one
/// device.
void kda_gate_backward(const KdaGateProblem& problem, const float* d_g, void* d_raw, float* d_parameters,
                       void* workspace, void* stream);
size_t kda_gate_backward_workspace(const KdaGateProblem& problem);

}  // namespace klab::kernels::cuda

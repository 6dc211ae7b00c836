// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the causal depthwise convolution of kernels/short_conv/short_conv.h, fused with its activation. They
// take plain pointers to device memory, without ATen, and neither synchronise nor allocate.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/cuda/sequences.h"
#include "kernels/common/rows.h"

namespace klab::kernels::cuda {

constexpr int kMostConvTaps = 8;

struct ShortConvProblem {
  int64_t B, D, W;      ///< rows, channels, taps; 1 <= W <= kMostConvTaps
  Sequences sequences;  ///< may include empty sequences, whose final state is the initial state
  Rows x;               ///< [B, T, D]
  Rows weight{};        ///< [D, W], contiguous, of any dtype; the last tap multiplies the current token
  Rows bias{};          ///< [D] of any dtype, or none
  bool silu = false;
  Rows initial_state{};  ///< [N, W - 1, D] of any dtype, or none for zeros
};

/// Writes y [B, T, D] and final_state [N, W - 1, D], in x's dtype.
void short_conv_forward(const ShortConvProblem& problem, const MutableRows& y, const MutableRows& final_state,
                        void* stream);

struct ShortConvGradients {
  MutableRows x;              ///< [B, T, D]
  MutableRows initial_state;  ///< [N, W - 1, D] of any dtype, or none
  float* parameters;          ///< [W + 1, D]: gradients of the weight's taps, then of the bias
};

/// d_y and d_final_state (may be absent) in x's dtype. `workspace` has short_conv_backward_workspace() bytes.
/// Deterministic: bitwise the same in every run on one device.
void short_conv_backward(const ShortConvProblem& problem, const Rows& d_y, const Rows& d_final_state,
                         const ShortConvGradients& gradients, void* workspace, void* stream);
size_t short_conv_backward_workspace(const ShortConvProblem& problem);

}  // namespace klab::kernels::cuda

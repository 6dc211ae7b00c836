// SPDX-License-Identifier: Apache-2.0
// CPU kernels of the causal depthwise convolution, fused with its activation and vectorised over channels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/common/cpu/sequence.h"
#include "kernels/common/rows.h"

namespace klab::kernels::cpu {

constexpr int64_t kMostTaps = 16;

struct ShortConvProblem {
  int64_t D, W;  ///< channels and taps, W <= kMostTaps
  std::vector<Sequence> sequences;
  Rows x;               ///< [B, T, D]
  const float* weight;  ///< [W, D]; the last tap multiplies the current token
  const float* bias;    ///< [D] or null
  bool silu;
  Rows initial_state;  ///< [N, W - 1, D], or none for zeros
};

/// Writes y [B, T, D] and final_state [N, W - 1, D].
void short_conv_forward(const ShortConvProblem& problem, const MutableRows& y, const MutableRows& final_state);

struct ShortConvGradients {
  MutableRows x, initial_state;  ///< initial_state may be absent
  float* weight;                 ///< [N, W, D]; the caller sums over the sequences
  float* bias;                   ///< [N, D] or null
};

/// d_final_state may be absent.
void short_conv_backward(const ShortConvProblem& problem, const Rows& d_y, const Rows& d_final_state,
                         const ShortConvGradients& gradients);

}  // namespace klab::kernels::cpu

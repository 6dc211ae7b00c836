// SPDX-License-Identifier: Apache-2.0
// The arguments of the hand-written CPU and CUDA kernels of the recurrence, as plain pointers and sizes.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/common/rows.h"
#include "kernels/recurrence/recurrence_kind.h"

namespace klab::kernels {

/// The inputs that have a row per token and head, or their gradients. Absent ones have null data.
template <class View>
struct RecurrenceRows {
  View q, k;  ///< [B, T, H, K]
  View v;     ///< [B, T, HV, V]
  View g;     ///< [B, T, HV, K] or [B, T, HV, 1]
  View beta;  ///< [B, T, HV, 1]
  View a, b;  ///< [B, T, HV, K]

  /// In the order of each_argument().
  std::array<View*, 7> rows() { return {&q, &k, &v, &g, &beta, &a, &b}; }
};

/// The computation of one call. K, V <= kMaxHeadDim.
struct RecurrenceProblem : RecurrenceRows<Rows> {
  Decay decay;
  Update update;
  int64_t H, HV, K, V;         ///< value head hv reads query and key head hv / (HV / H)
  float scale;                 ///< multiplies q
  const float* initial_state;  ///< [N, HV, K, V], or null for zeros

  bool l2norm = false;  ///< q and k are divided by their length, sqrt(sum x^2 + 1e-6)
  Gate gate = Gate::log_decay;
  float lower_bound = 0;           ///< of Gate::bounded
  const float* A_log = nullptr;    ///< [HV], or null for zeros
  const float* dt_bias = nullptr;  ///< [HV, K] or [HV], or null for zeros
  bool beta_sigmoid = false;       ///< beta = beta_factor sigmoid(given)
  float beta_factor = 1;
};

/// Gradients. Those of q and k have one row per value head, [B, T, HV, K]; the caller sums over the value heads that
/// share a query and key head.
struct RecurrenceGradients : RecurrenceRows<MutableRows> {
  float* initial_state = nullptr;  ///< [N, HV, K, V]
  float* A_log = nullptr;          ///< [N, HV]; the caller sums over the sequences
  float* dt_bias = nullptr;        ///< [N, HV, K or 1]; the caller sums over the sequences
};

}  // namespace klab::kernels

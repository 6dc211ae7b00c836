// The recurrence family in plain pointers and sizes: what the hand-written kernels, on the CPU and on CUDA, are given.
#pragma once

#include <cstdint>

#include "kernels/recurrence/recurrence_kind.h"
#include "kernels/common/rows.h"

namespace klab::kernels {

/// What to compute. Widths up to kMaxHeadDim; rows of absent inputs have no data.
struct RecurrenceProblem {
  Decay decay;
  Update update;
  int64_t H, HV, K, V;         ///< value head hv reads query and key head hv / (HV / H)
  Rows q, k;                   ///< [B, T, H, K]
  Rows v;                      ///< [B, T, HV, V]
  Rows g;                      ///< [B, T, HV, K] or [B, T, HV, 1]
  Rows beta;                   ///< [B, T, HV, 1]
  Rows a, b;                   ///< [B, T, HV, K]
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

/// Gradients, one row per value head where the input has one per query head: the caller adds up groups.
struct RecurrenceGradients {
  MutableRows q, k;                ///< [B, T, HV, K]
  MutableRows v;                   ///< [B, T, HV, V]
  MutableRows g;                   ///< [B, T, HV, K or 1]
  MutableRows beta;                ///< [B, T, HV, 1]
  MutableRows a, b;                ///< [B, T, HV, K]
  float* initial_state = nullptr;  ///< [N, HV, K, V]
  float* A_log = nullptr;          ///< [N, HV]: the caller adds up the sequences
  float* dt_bias = nullptr;        ///< [N, HV, K or 1]
};

}  // namespace klab::kernels

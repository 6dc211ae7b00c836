// SPDX-License-Identifier: Apache-2.0
// The recurrence family: one operator for KDA, Gated DeltaNet, DeltaNet, GLA, Mamba2, RetNet, linear attention, DPLR.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"
#include "kernels/recurrence/recurrence_kind.h"

namespace klab::kernels {

/// The parameters of the gate that maps a raw projection to the log-decay, see kda_gate.h.
struct RecurrenceGate {
  at::Tensor A_log;                     ///< [HV]
  at::Tensor dt_bias;                   ///< [HV * K], or [HV] if g is [B, T, HV]; may be undefined
  std::optional<double> lower_bound{};  ///< in [-5, 0), selects the bounded gate; then A_log may be undefined
};

/// Inputs of the recurrence. B batch, T time, H query and key heads, HV value heads (a multiple of H; value head hv
/// reads query and key head hv / (HV / H)), K key width, V value width per head, N sequences, TW = T * writes.
struct RecurrenceInputs {
  at::Tensor q;                   ///< [B, T, H, K]
  at::Tensor k;                   ///< [B, TW, H, K]
  at::Tensor v;                   ///< [B, TW, HV, V]
  at::Tensor g;                   ///< log-decay, natural log, <= 0: undefined, [B, T, HV] or [B, T, HV, K]
  at::Tensor beta;                ///< [B, TW, HV]; if defined, the update is the delta rule
  at::Tensor a, b;                ///< [B, TW, HV, K]; if both are defined, the update is DPLR
  std::optional<double> scale{};  ///< multiplies q; K^-0.5 when absent
  at::Tensor initial_state;       ///< [N, HV, K, V]; zeros when undefined
  at::Tensor cu_seqlens;          ///< [N + 1] integer offsets of packed sequences (needs B = 1); undefined: N = B

  /// Updates initial_state in place (contiguous, of the states' dtype) and returns it as final_state, which halves the
  /// memory traffic of a decode step. No gradients.
  bool overwrite_state = false;

  /// Computes RecurrenceOutputs::all_states, for speculative decoding. Meant for few tokens; without cu_seqlens,
  /// overwrite_state and gradients.
  bool output_all_states = false;

  // Activations of a layer's projections, which the hand-written kernels fuse.
  bool qk_l2norm = false;                ///< divide q and k by sqrt(sum x^2 + 1e-6)
  std::optional<RecurrenceGate> gate{};  ///< if present, g is a raw projection and the gate computes the log-decay
  bool beta_sigmoid = false;             ///< beta is a raw projection; use its sigmoid
  bool allow_neg_eigval = false;         ///< use twice that sigmoid

  /// Updates of the state per token (DeltaProduct, arXiv 2502.10297): it decays before the first one, and q reads it
  /// after the last one. The rows of k, v, beta, a and b are those of token 0, one per write, then of token 1, ..
  int64_t writes = 1;

  KLAB_API Decay decay() const;    ///< from the rank of g
  KLAB_API Update update() const;  ///< from which of beta, a, b are defined
};

/// The inputs with these activations applied and their options turned off: q and k normalised, g a log-decay, beta
/// activated. Composed of differentiable ATen operators, in the accumulation dtype.
KLAB_API RecurrenceInputs activated(RecurrenceInputs inputs);

/// Tokens [first, first + count) of inputs without cu_seqlens, as views.
KLAB_API RecurrenceInputs tokens_of(RecurrenceInputs inputs, int64_t first, int64_t count);

struct RecurrenceOutputs {
  at::Tensor o;            ///< [B, T, HV, V], dtype of v
  at::Tensor final_state;  ///< [N, HV, K, V], float32 (float64 when the inputs are)
  at::Tensor
      all_states{};  ///< [B, T, HV, K, V], the state after every token, if output_all_states; dtype of final_state
};

/// o_t = S_t^T (scale q_t), read after the write, with the state update of `Update` (recurrence_kind.h) and
/// D_t = exp(g_t).
///
/// Equations 1 and 2 and table 6 of arXiv 2510.26692. Accurate for every g <= 0, including -1000 and -infinity; any
/// T >= 1, K, V <= 256. Differentiable in every tensor but cu_seqlens (`cpu` and `cuda`: once). Dtypes: float64 is
/// computed in float64, everything else in float32; results are rounded once. `automatic` is the kernel for the
/// tensors' device if it can run (not in float64), else `chunk`, or `reference` for a single token. With several writes
/// per token all but `cpu` copy q and g to a row per write. Throws
/// c10::ValueError that names the argument for wrong shapes, dtypes or offsets, and c10::NotImplementedError for an
/// implementation that cannot run on these tensors.
KLAB_API RecurrenceOutputs recurrence(const RecurrenceInputs& inputs,
                                      Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> recurrence_implementations();

}  // namespace klab::kernels

// The recurrence family: one operator for KDA, Gated DeltaNet, DeltaNet, GLA, Mamba2, RetNet, linear attention, DPLR.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/common/implementation.h"
#include "kernels/recurrence/recurrence_kind.h"

namespace klab::kernels {

/// How g comes from a raw projection: kda_gate.h.
struct RecurrenceGate {
  at::Tensor A_log;                     ///< [HV]
  at::Tensor dt_bias;                   ///< [HV * K], or [HV] where g is one number per head; may be undefined
  std::optional<double> lower_bound{};  ///< in [-5, 0): the bounded gate; then A_log may be undefined
};

/// Inputs of the recurrence. B batch, T time, H query and key heads, HV value heads (a multiple of H; value head hv
/// reads query and key head hv / (HV / H)), K key width, V value width per head, N sequences.
struct RecurrenceInputs {
  at::Tensor q, k;                ///< [B, T, H, K]
  at::Tensor v;                   ///< [B, T, HV, V]
  at::Tensor g;                   ///< log-decay, natural log, <= 0: undefined, [B, T, HV] or [B, T, HV, K]
  at::Tensor beta;                ///< [B, T, HV]; defined: the delta rule
  at::Tensor a, b;                ///< [B, T, HV, K]; both defined: DPLR
  std::optional<double> scale{};  ///< multiplies q; K^-0.5 when absent
  at::Tensor initial_state;       ///< [N, HV, K, V]; zeros when undefined
  at::Tensor cu_seqlens;          ///< [N + 1] integer offsets of packed sequences, then B = 1; undefined: N = B

  /// The final state is written over initial_state (contiguous, of the states' dtype) and is that tensor: half of a
  /// decode step's memory traffic. Not where a gradient is needed.
  bool overwrite_state = false;

  /// Every token's state is wanted, for taking back tokens that were guessed: for few tokens, not packed, no gradients.
  bool output_all_states = false;

  // What a layer does to its projections first; the hand-written kernels do it on the way.
  bool qk_l2norm = false;                ///< q and k are divided by sqrt(sum x^2 + 1e-6)
  std::optional<RecurrenceGate> gate{};  ///< g is raw: the gate makes the log-decay of it
  bool beta_sigmoid = false;             ///< beta is raw: its sigmoid is taken
  bool allow_neg_eigval = false;         ///< doubles that sigmoid

  Decay decay() const;    ///< from the rank of g
  Update update() const;  ///< from which of beta, a, b are defined
};

/// The same inputs after what a layer does to its projections first: q and k normed, g a log-decay, beta in its range,
/// and those switches off. Composed of ATen operators, in the accumulation dtype; as often differentiable as those are.
RecurrenceInputs activated(RecurrenceInputs inputs);

struct RecurrenceOutputs {
  at::Tensor o;            ///< [B, T, HV, V], dtype of v
  at::Tensor final_state;  ///< [N, HV, K, V], float32 (float64 when the inputs are)
  at::Tensor all_states{};  ///< [B, T, HV, K, V], the state after each token, where wanted; dtype of final_state
};

/// o_t = S_t^T (scale q_t), the read after the write, with S_t after `Update` and D_t = exp(g_t).
///
/// Equations 1 and 2 and table 6 of arXiv 2510.26692. Exact for every g <= 0, -1000 and -infinity included; any
/// T >= 1, K, V <= 256. Differentiable in every tensor but cu_seqlens (`cpu`: once). Dtypes: float64 is computed in
/// float64, everything else in float32; results are rounded once. `automatic` is `cpu` for CPU tensors that are not
/// float64, else `chunk`, or `reference` for a single token. Throws c10::ValueError that names the argument for wrong
/// shapes, dtypes or offsets, and c10::NotImplementedError for an implementation that cannot run on these tensors.
RecurrenceOutputs recurrence(const RecurrenceInputs& inputs, Implementation implementation = Implementation::automatic);

struct RecurrenceKept;  // recurrence_fused.h

/// The same without autograd; fills `kept`, unless it is null, where kernels run that keep something.
RecurrenceOutputs recurrence(const RecurrenceInputs& inputs, Implementation implementation, RecurrenceKept* kept);

/// The implementations that this build has.
std::vector<Implementation> recurrence_implementations();

}  // namespace klab::kernels

// SPDX-License-Identifier: Apache-2.0
// The gated rule of Oja.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// B batch, T time, H query and key heads, HV value heads (a multiple of H), K key width, V value width, N sequences.
struct OjaInputs {
  at::Tensor q, k;                ///< [B, T, H, K]
  at::Tensor v;                   ///< [B, T, HV, V]; beta |v|^2 < 2 keeps the state bounded
  at::Tensor g;                   ///< log-decay of the value channels, natural log, <= 0, [B, T, HV, V]
  at::Tensor beta;                ///< [B, T, HV]
  std::optional<double> scale{};  ///< multiplies q; K^-0.5 when absent
  at::Tensor initial_state;       ///< [N, HV, K, V]; zeros when undefined
  at::Tensor cu_seqlens;          ///< [N + 1] integer offsets of packed sequences (needs B = 1); undefined: N = B
};

struct OjaOutputs {
  at::Tensor o;            ///< [B, T, HV, V], dtype of v
  at::Tensor final_state;  ///< [N, HV, K, V], float32 (float64 when the inputs are)
};

/// The delta rule with keys and values exchanged (Oja 1982; the gated form of fla-core): the state decays along the
/// value channels, predicts the key from the value and is corrected by the error,
///     S = S diag(exp(g))    S = S + beta (k - S v) v^T    o = S^T (scale q).
/// Accurate for every g <= 0. Differentiable in every tensor but cu_seqlens. Dtypes: float64 is computed in float64,
/// everything else in float32; results are rounded once. Implementations: `reference`, token by token, and `chunk`, by
/// matrix products; `automatic` is `chunk`, or `reference` for a single token. Throws c10::ValueError that names the
/// argument, c10::NotImplementedError for an implementation that it does not have.
KLAB_API OjaOutputs oja_rule(const OjaInputs& inputs, Implementation implementation = Implementation::automatic);

/// FLOPs of the chunk form for one head over T tokens, and of one token.
double oja_flops(int64_t T, int64_t K, int64_t V);
double oja_step_flops(int64_t K, int64_t V);

}  // namespace klab::kernels

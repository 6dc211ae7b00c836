// SPDX-License-Identifier: Apache-2.0
// The delta rule with momentum.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// B batch, T time, H query and key heads, HV value heads (a multiple of H), K key width, V value width, N sequences.
struct MomentumInputs {
  at::Tensor q, k;                ///< [B, T, H, K]
  at::Tensor v;                   ///< [B, T, HV, V]
  at::Tensor g;                   ///< log alpha, natural log, <= 0, [B, T, HV]
  at::Tensor log_mu;              ///< <= 0, [B, T, HV]
  at::Tensor beta, eta;           ///< [B, T, HV]
  std::optional<double> scale{};  ///< multiplies q; K^-0.5 when absent
  at::Tensor initial_state;       ///< [N, HV, 2 K, V], S above M; zeros when undefined
  at::Tensor cu_seqlens;          ///< [N + 1] integer offsets of packed sequences (needs B = 1); undefined: N = B
};

struct MomentumOutputs {
  at::Tensor o;            ///< [B, T, HV, V], dtype of v
  at::Tensor final_state;  ///< [N, HV, 2 K, V], float32 (float64 when the inputs are)
};

/// The delta rule by gradient descent with momentum (arXiv 2605.05838):
///     M = mu M - eta k (v - alpha S^T k)^T    S = alpha S - beta M    o = S^T (scale q)
/// Accurate for every g and log_mu <= 0. Differentiable in every tensor but cu_seqlens. Dtypes: float64 is computed in
/// float64, everything else in float32; results are rounded once. Implementations: `reference`, token by token, and
/// `chunk`, by matrix products; `automatic` is `chunk`, or `reference` for a single token. Throws c10::ValueError that
/// names the argument, c10::NotImplementedError for an implementation that it does not have.
KLAB_API MomentumOutputs momentum_delta_rule(const MomentumInputs& inputs,
                                             Implementation implementation = Implementation::automatic);

/// FLOPs of the chunk form for one head over T tokens, and of one token.
double momentum_flops(int64_t T, int64_t K, int64_t V);
double momentum_step_flops(int64_t K, int64_t V);

}  // namespace klab::kernels

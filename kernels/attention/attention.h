// SPDX-License-Identifier: Apache-2.0
// Causal softmax attention with grouped-query heads, cached keys, forget gates and sliding windows.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// B batch, T queries, S >= T keys, the last T of which have the same positions as the queries; H query heads, HK key
/// heads (a divisor of H; query head h reads key head h / (H / HK)).
struct AttentionInputs {
  at::Tensor q;                     ///< [B, T, H, K]
  at::Tensor k;                     ///< [B, S, HK, K]
  at::Tensor v;                     ///< [B, S, HK, V]
  at::Tensor g{};                   ///< [B, S, H] log of a forget gate, finite and <= 0, or undefined
  std::optional<double> scale{};    ///< K^-0.5 when absent
  std::optional<int64_t> window{};  ///< a query attends to this many latest keys, its own among them; excludes g
};

/// o [B, T, H, V]: query t, at position p = S - T + t, attends to the keys j <= p with the weights
///     softmax_j(scale q_t k_j + sum of g_i over j < i <= p)
/// (Vaswani et al. 2017; with g the forgetting attention of Lin et al. 2025), with a window w to those with p - w < j.
/// `reference` materialises all weights, in float32 (float64 for float64). `composed` is ATen's fused attention, which
/// does not: with a window for blocks of queries and the keys that they see. With g it is attention by blocks of
/// queries in float32 (float64 for float64). `automatic` is `composed`. Differentiable. Dtype of q. Throws
/// c10::ValueError that names the argument, and c10::NotImplementedError for other implementations.
KLAB_API at::Tensor attention(const AttentionInputs& inputs, Implementation implementation = Implementation::automatic);

/// The attention weights [B, H, T, S] of attention(): zero for keys that a query does not see, every row sums to 1.
/// Float32 (float64 for float64). The whole tensor is materialised. v is not read.
KLAB_API at::Tensor attention_weights(const AttentionInputs& inputs);

/// The largest logit scale q_t k_j of each query head, over the batch and all keys seen: [H] float32. Without forget
/// gates and gradients; the logits of 128 queries are in memory at a time. v is not read.
KLAB_API at::Tensor largest_logits(const AttentionInputs& inputs);

/// Attention to a subset of the keys, with the log-sum-exp of the logits, which join() needs.
struct PartialAttention {
  at::Tensor o;    ///< [B, T, H, V]
  at::Tensor lse;  ///< [B, T, H] float32 (float64 for float64)
};

/// Attention of each query to all given keys (`causal` false), or to those up to its own position (`causal` true, for
/// which S = T). CPU only, without g, window and gradients.
KLAB_API PartialAttention partial_attention(const AttentionInputs& inputs, bool causal);

struct AttentionGradients {
  at::Tensor q, k, v;  ///< of the inputs, in their shapes
};

/// The gradients of q, k and v of partial attention that was joined with others to `whole`, whose o has the gradient
/// d_o [B, T, H, V]: those of k and v, and this part's share of that of q.
KLAB_API AttentionGradients partial_attention_backward(const AttentionInputs& inputs, const PartialAttention& whole,
                                                       const at::Tensor& d_o, bool causal);

/// Combines the results for two disjoint sets of keys into attention to their union.
KLAB_API PartialAttention join(const PartialAttention& one, const PartialAttention& other);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> attention_implementations();

/// FLOPs of one head of causal attention for T queries after `past` keys: equation 14 of arXiv 2510.26692 (2 T^2 K at
/// K = V and `past` = 0). Both products count only the causal half of the T x T square.
inline double attention_flops(int64_t T, int64_t past, int64_t K, int64_t V) {
  const auto t = static_cast<double>(T), p = static_cast<double>(past);
  return (t * t + 2 * t * p) * static_cast<double>(K + V);
}

/// The same with a window.
inline double windowed_attention_flops(int64_t T, int64_t past, int64_t window, int64_t K, int64_t V) {
  const int64_t growing = past < window ? (T < window - past ? T : window - past) : 0;  // queries that see all keys
  return attention_flops(growing, past, K, V) +
         2 * static_cast<double>(T - growing) * static_cast<double>(window) * static_cast<double>(K + V);
}

}  // namespace klab::kernels

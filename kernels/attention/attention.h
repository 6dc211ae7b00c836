// Causal softmax attention with grouped keys, keys before the queries, and forget gates.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// B batch, T queries, S >= T keys, of which the last T are at the queries' own positions; H query heads, HK key
/// heads (a divisor; query head h reads key head h / (H / HK)).
struct AttentionInputs {
  at::Tensor q;                   ///< [B, T, H, K]
  at::Tensor k;                   ///< [B, S, HK, K]
  at::Tensor v;                   ///< [B, S, HK, V]
  at::Tensor g{};                 ///< [B, S, H] log of a forget gate, finite and <= 0, or undefined
  std::optional<double> scale{};  ///< K^-0.5 when absent
};

/// o [B, T, H, V]: query t, at position p = S - T + t, weighs the keys j <= p by
///     softmax_j(scale q_t k_j + sum of g_i over j < i <= p)
/// (Vaswani et al. 2017; with g the forgetting attention of Lin et al. 2025). `reference` writes that out, in the dtype
/// of its inputs. `composed` is ATen's fused attention, which does not store all weights; with g, blocks of queries.
/// `automatic` is `composed`. Differentiable. Dtype of q. Throws c10::ValueError that names the argument, and
/// c10::NotImplementedError for other implementations.
KLAB_API at::Tensor attention(const AttentionInputs& inputs, Implementation implementation = Implementation::automatic);

/// The weights that attention() gives to the keys, [B, H, T, S]: zero where j > p, every row sums to 1. Written out, in
/// float32 (float64 for float64); all in memory at once. v is not read.
KLAB_API at::Tensor attention_weights(const AttentionInputs& inputs);

/// Attention to some of the keys, and the normaliser that join() needs: log sum exp of the logits.
struct PartialAttention {
  at::Tensor o;    ///< [B, T, H, V]
  at::Tensor lse;  ///< [B, T, H] float32 (float64 for float64)
};

/// Attention of each query to all given keys (`causal` false), or to those up to its own position (S = T). On the CPU,
/// without g and gradients.
KLAB_API PartialAttention partial_attention(const AttentionInputs& inputs, bool causal);

/// Attention to both sets of keys together, from the results for each.
KLAB_API PartialAttention join(const PartialAttention& one, const PartialAttention& other);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> attention_implementations();

/// FLOPs of one head for T queries after `past` keys, causal: equation 14 of arXiv 2510.26692 (2 T^2 K at K = V), both
/// products over half of the square.
inline double attention_flops(int64_t T, int64_t past, int64_t K, int64_t V) {
  const auto t = static_cast<double>(T), p = static_cast<double>(past);
  return (t * t + 2 * t * p) * static_cast<double>(K + V);
}

}  // namespace klab::kernels

// SPDX-License-Identifier: Apache-2.0
// Multi-query attention over a latent cache: the decode form of multi-head latent attention (MLA).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// All heads share one cache row per token: R latent channels, which serve as key and value, then P key-only channels.
struct LatentAttentionInputs {
  at::Tensor q;       ///< [B, T, H, R + P]: the up-projection of the keys absorbed into the query
  at::Tensor cache;   ///< [B, S, R + P], S >= T: the last T rows belong to the queries' tokens
  int64_t value_dim;  ///< R
  double scale;       ///< on the logits: (width of a query head before absorption)^-0.5
};

/// o [B, T, H, R]: softmax(scale q_t . cache_j over j <= S - T + t) times the first R channels of cache_j. Section 2.1
/// of DeepSeek-V2 (arXiv 2405.04434), absorbed form.
///
/// `cpu` reads the cache once for all heads and computes in float32; float32, bfloat16 and float16; no gradients.
/// `cuda` does the same on tensor cores: it rounds the softmax weights to the inputs' dtype, needs the same dtype for q
/// and cache, R up to 512 and R + P up to 640. `composed` is ATen's fused attention, `reference` materialises all
/// weights. `automatic` is the kernel for the tensors' device if it can run, else `composed`. Dtype of q. Throws
/// c10::ValueError that names the argument, c10::NotImplementedError for an implementation that cannot run on these
/// tensors.
KLAB_API at::Tensor latent_attention(const LatentAttentionInputs& inputs,
                                     Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> latent_attention_implementations();

/// FLOPs of one step over `keys` cached tokens: a dot product over R + P and a sum over R for each head.
inline double latent_attention_flops(int64_t heads, int64_t keys, int64_t R, int64_t P) {
  return 2.0 * static_cast<double>(heads) * static_cast<double>(keys) * static_cast<double>(2 * R + P);
}

}  // namespace klab::kernels

// Multi-query attention over a latent cache: how latent attention (MLA) decodes.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// All heads read one row per token: R numbers of latent, which are key and value at once, and P more of key.
struct LatentAttentionInputs {
  at::Tensor q;       ///< [B, T, H, R + P]: the up-projection of the keys absorbed into the query
  at::Tensor cache;   ///< [B, S, R + P], S >= T: the last T rows are the queries' own
  int64_t value_dim;  ///< R
  double scale;       ///< on the logits: (width of a query head before absorption)^-0.5
};

/// o [B, T, H, R]: softmax(scale q_t . cache_j over j <= S - T + t) times the first R numbers of cache_j. Section 2.1
/// of DeepSeek-V2 (arXiv 2405.04434), absorbed form.
///
/// `cpu` passes over the cache once for all heads, in float32 inside; float32, bfloat16 and float16; no gradients.
/// `cuda` likewise, with products of the tensor cores: it rounds the softmax's weights to the inputs' dtype, takes one
/// dtype for both, R up to 512 and R + P up to 640. `composed` is ATen's fused attention, `reference` writes it out.
/// `automatic` is the kernel of the tensors' device where it can run, else `composed`. Dtype of q. Throws
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

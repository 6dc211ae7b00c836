# SPDX-License-Identifier: Apache-2.0
"""Multi-query attention over a latent cache: the decode form of multi-head latent attention (MLA)."""

import torch

from klab import _arguments as arguments
from klab.errors import require


def latent_attention(q: torch.Tensor, cache: torch.Tensor, value_dim: int, scale: float) -> torch.Tensor:
    """softmax(scale q_t . cache_j over j <= S - T + t) times the first `value_dim` channels of cache_j.

    Section 2.1 of DeepSeek-V2 (arXiv 2405.04434), absorbed form.

    Args:
        q: [B, T, H, R + P]: queries with the up-projection of the keys absorbed; any float dtype.
        cache: [B, S, R + P], S >= T: one row per token; the last T rows belong to the queries' tokens.
        value_dim: R, the width of the latent.
        scale: multiplies the logits: (width of a query head before absorption) ** -0.5.
    Returns:
        [B, T, H, R] in the dtype of q. For inference: no gradients.
    Raises:
        ArgumentError: wrong shapes, or a tensor that requires a gradient.
    """
    arguments.check_tensor("latent_attention", "q", q, "[B, T, H, R + P]")
    arguments.check_tensor("latent_attention", "cache", cache, "[B, S, R + P]")
    require(q.ndim == 4, "latent_attention: q must be [B, T, H, R + P], but has shape {}", q.shape)
    require(cache.ndim == 3, "latent_attention: cache must be [B, S, R + P], but has shape {}", cache.shape)
    arguments.check_shape("latent_attention", "cache", cache, (q.shape[0], cache.shape[1], q.shape[3]))
    require(cache.shape[1] >= q.shape[1], "latent_attention: {} queries, but only {} cached rows", q.shape[1],
            cache.shape[1])
    require(1 <= value_dim <= q.shape[3], "latent_attention: value_dim = {} must lie in 1..{}", value_dim, q.shape[3])
    require(not (torch.is_grad_enabled() and (q.requires_grad or cache.requires_grad)),
            "latent_attention has no gradients: call it under torch.no_grad()")
    return torch.ops.klab.latent_attention(q, cache, value_dim, scale)

# SPDX-License-Identifier: Apache-2.0
"""Linear-attention operators with the interface of flash-linear-attention, for CPU and CUDA tensors, differentiable.

    o, state = klab.chunk_kda(q, k, v, g, beta, output_final_state=True)

`klab.integrations.transformers.enable()` makes transformers' own Kimi Linear model use them. The operators are registered
as `torch.ops.klab.*` when this package is imported.
"""

from klab import _library

_library.load()

from klab.attention import latent_attention  # noqa: E402
from klab.convolution import causal_conv1d  # noqa: E402
from klab.errors import ArgumentError  # noqa: E402
from klab.gate import fused_kda_gate  # noqa: E402
from klab.recurrences import (  # noqa: E402
    chunk_delta_rule,
    chunk_dplr_delta_rule,
    chunk_gated_delta_product,
    chunk_gated_delta_rule,
    chunk_gla,
    chunk_kda,
    chunk_simple_gla,
    fused_recurrent_delta_rule,
    fused_recurrent_dplr_delta_rule,
    fused_recurrent_gated_delta_rule,
    fused_recurrent_gla,
    fused_recurrent_kda,
    fused_recurrent_simple_gla,
)

__all__ = [
    "ArgumentError",
    "causal_conv1d",
    "chunk_delta_rule",
    "chunk_dplr_delta_rule",
    "chunk_gated_delta_product",
    "chunk_gated_delta_rule",
    "chunk_gla",
    "chunk_kda",
    "chunk_simple_gla",
    "fused_kda_gate",
    "fused_recurrent_delta_rule",
    "fused_recurrent_dplr_delta_rule",
    "fused_recurrent_gated_delta_rule",
    "fused_recurrent_gla",
    "fused_recurrent_kda",
    "fused_recurrent_simple_gla",
    "latent_attention",
]

# SPDX-License-Identifier: Apache-2.0
"""The gate of KDA: log-decay from a raw projection."""

import torch

from klab import _arguments as arguments
from klab.errors import require


def fused_kda_gate(g: torch.Tensor, A_log: torch.Tensor | None = None, dt_bias: torch.Tensor | None = None,
                   lower_bound: float | None = None, output_dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """g = -exp(A_log) softplus(g + dt_bias); with a lower bound, g = lower_bound sigmoid(exp(A_log) (g + dt_bias)).

    Section 4 of arXiv 2510.26692. chunk_kda(use_gate_in_kernel=True) computes the same without the intermediate tensor.

    Args:
        g: raw gate [..., H, K], any float dtype.
        A_log: H elements in any shape; may be None with a lower bound, then exp(A_log) is 1.
        dt_bias: H * K elements in any shape, or None.
        lower_bound: in [-5, 0), or None.
        output_dtype: dtype of the result; the computation is in float32 (float64 for float64).
    Returns:
        The log-decay [..., H, K], <= 0. Differentiable once.
    Raises:
        ArgumentError: neither A_log nor a lower bound; a lower bound outside [-5, 0).
    """
    arguments.check_tensor("fused_kda_gate", "g", g, "[..., H, K]")
    require(g.ndim >= 2, "fused_kda_gate: g must be [..., H, K], but has shape {}", g.shape)
    require(A_log is not None or lower_bound is not None, "A_log may be None only with a lower_bound")
    require(lower_bound is None or -5 <= lower_bound < 0, "lower_bound = {} does not lie in [-5, 0)", lower_bound)
    rows = g.reshape(1, -1, *g.shape[-2:])
    flat = [None if x is None else x.reshape(-1) for x in (A_log, dt_bias)]
    bound = None if lower_bound is None else float(lower_bound)
    return torch.ops.klab.kda_gate(rows, *flat, bound).reshape(g.shape).to(output_dtype)

# SPDX-License-Identifier: Apache-2.0
"""The causal depthwise convolution over a few tokens, the first operation of every linear mixer."""

import torch
import torch.nn.functional as F

from klab import _arguments as arguments
from klab.errors import require

_ACTIVATIONS = {None: "", "silu": "silu", "swish": "silu"}


def causal_conv1d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str | None = None,
                  initial_state: torch.Tensor | None = None, cu_seqlens: torch.Tensor | None = None, *,
                  residual: torch.Tensor | None = None, output_final_state: bool = False, backend: str | None = None,
                  **extra: object) -> tuple[torch.Tensor, torch.Tensor | None]:
    """y_t = activation(bias + sum_w weight[:, w] x_{t - W + 1 + w}) (+ residual_t).

    Args:
        x: [B, T, D], or [B, T, ...] with D elements per token; any float dtype.
        weight: [D, W]; the last tap multiplies the current token.
        bias: [D] or None.
        activation: None, "silu" or "swish"; the last two are the same.
        initial_state: [N, D, W], the W tokens before x, oldest first (the oldest is never read); None: zeros.
        cu_seqlens: [N + 1] integer offsets of packed sequences (needs B = 1); without it N = B.
        residual: shape of x, added to y, or None.
        output_final_state: whether to return the last W tokens of every sequence.
        backend: ignored.
    Returns:
        (y in the shape and dtype of x, final state [N, D, W] in the dtype of x or None). Differentiable once.
    Raises:
        ArgumentError: wrong shapes, activation or offsets. NotImplementedError: cp_context. TypeError: unknown keyword.
    """
    arguments.check_extra("causal_conv1d", extra)
    require(activation in _ACTIVATIONS, "causal_conv1d: activation must be None, 'silu' or 'swish', but is {!r}", activation)
    arguments.check_tensor("causal_conv1d", "weight", weight, "[D, W]")
    require(weight.ndim == 2, "causal_conv1d: weight must be [D, W], but has shape {}", weight.shape)
    arguments.check_tensor("causal_conv1d", "x", x, "[B, T, D]")
    require(x.ndim >= 3, "causal_conv1d: x must be [B, T, D], but has shape {}", x.shape)
    flat = x.flatten(2)
    D, W = weight.shape
    N = arguments.check_sequences("causal_conv1d", x.shape[0], cu_seqlens)
    arguments.check_shape("causal_conv1d", "x", flat, (*x.shape[:2], D))
    if initial_state is not None:
        arguments.check_shape("causal_conv1d", "initial_state", initial_state, (N, D, W))
    past = None if initial_state is None else initial_state[..., 1:].transpose(1, 2)
    y, _ = torch.ops.klab.short_conv(flat, weight, bias, _ACTIVATIONS[activation], past, cu_seqlens)
    y = y.view(x.shape) if residual is None else y.view(x.shape) + residual
    return y, _last_tokens(flat, W, initial_state, cu_seqlens) if output_final_state else None


def _last_tokens(x: torch.Tensor, W: int, initial_state: torch.Tensor | None,
                 cu_seqlens: torch.Tensor | None) -> torch.Tensor:
    """[N, D, W]: the last W tokens of the initial state followed by x, zero-padded at the front."""
    if cu_seqlens is None:
        last = x[:, max(x.shape[1] - W, 0):].transpose(1, 2)
        missing = W - last.shape[2]
        if missing == 0:
            return last.contiguous()
        before = x.new_zeros(x.shape[0], x.shape[2], missing) if initial_state is None else initial_state[..., -missing:]
        return torch.cat([before.to(x.dtype), last], -1)
    return _last_tokens_packed(x[0], W, initial_state, cu_seqlens)


def _last_tokens_packed(x: torch.Tensor, W: int, initial_state: torch.Tensor | None,
                        cu_seqlens: torch.Tensor) -> torch.Tensor:
    """The same for packed sequences, by indexing. x is padded with a zero row, used for tokens before a sequence."""
    start, end = cu_seqlens[:-1, None], cu_seqlens[1:, None]
    index = end - W + torch.arange(W, device=x.device)  # [N, W]
    inside = index >= start
    last = F.pad(x, (0, 0, 1, 0))[torch.where(inside, index + 1, 0)].transpose(1, 2)  # [N, D, W]
    if initial_state is None:
        return last.contiguous()
    # A sequence of L < W tokens keeps the last W - L of its initial state.
    kept = (index - start + W).clamp(0, W - 1)[:, None].expand(-1, x.shape[1], -1)
    return torch.where(inside[:, None], last, initial_state.to(x.dtype).gather(2, kept))

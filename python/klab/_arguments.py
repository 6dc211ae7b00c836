# SPDX-License-Identifier: Apache-2.0
"""Argument checks that the public functions share. Messages name the argument, its value and the allowed values.

The operators check their arguments too, but these checks run while torch.compile traces, and they raise the exception
types of flash-linear-attention.
"""

import reprlib
import warnings
from collections.abc import Mapping, Sequence

import torch

from klab.errors import require

MAX_HEAD_DIM = 256

# Arguments that affect only speed or memory in flash-linear-attention, and have no effect here.
_WITHOUT_EFFECT = ("cu_seqlens_cpu", "chunk_indices", "safe_gate", "disable_recompute", "max_num_seqs")
# Arguments of flash-linear-attention that klab does not support.
_REFUSED = ("cp_context", "return_intermediate_states", "use_graph", "reverse", "gv", "inplace_final_state", "out",
            "ssm_state_indices", "num_accepted_tokens", "seq_idx")


def check_extra(function: str, extra: Mapping[str, object], state_v_first: bool = False) -> bool:
    """Checks keyword arguments outside the signature. Returns state_v_first, which may be given by its old name."""
    for name, value in extra.items():
        if name == "head_first":
            raise DeprecationWarning(f"{function}: head_first was removed; inputs are [B, T, H, ...]")
        if name == "transpose_state_layout":
            require(not state_v_first, "{}: transpose_state_layout is the old name of state_v_first; give one", function)
            warnings.warn("transpose_state_layout is now called state_v_first", DeprecationWarning, stacklevel=4)
            state_v_first = bool(value)
        elif name in _REFUSED:
            if value is not None and value is not False:
                raise NotImplementedError(f"{function}: {name} = {value!r} is not supported")
        elif name not in _WITHOUT_EFFECT:
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")
    return state_v_first


def check_chunk_size(function: str, chunk_size: int | None) -> None:
    """The kernels choose their own chunk size; a value that flash-linear-attention rejects is rejected here too."""
    require(chunk_size in (None, 16, 32, 64), "{}: chunk_size must be 16, 32 or 64, but is {}", function, chunk_size)


def check_tensor(function: str, name: str, value: object, form: str) -> None:
    """`form` says what the tensor holds: "of shape [B, T]"."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{function}: {name} must be a tensor {form}, but is {reprlib.repr(value)}")


def check_shape(function: str, name: str, tensor: torch.Tensor, shape: Sequence[int]) -> None:
    if not isinstance(tensor, torch.Tensor):  # the message must not be made of sizes that torch.compile traces
        check_tensor(function, name, tensor, f"of shape {list(shape)}")
    require(tuple(tensor.shape) == tuple(shape), "{}: {} has shape {}, but must have {}", function, name,
            tensor.shape, shape)


def check_heads(function: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                writes: int = 1) -> tuple[int, int, int, int, int]:
    """Checks q [B, T, H, K], k [B, T * writes, H, K] and v [B, T * writes, HV, V]. Returns B, T, HV, K, V."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_tensor(function, name, x, "[B, T, heads, width]")
        require(x.ndim == 4, "{}: {} must have four dimensions [B, T, heads, width], but has shape {}", function, name,
                x.shape)
    B, T, H, K = q.shape
    check_shape(function, "k", k, (B, T * writes, H, K))
    HV, V = v.shape[2:]
    require(v.shape[:2] == k.shape[:2], "{}: v has shape {}, but must begin with the [B, {}] of {}, which has shape {}",
            function, v.shape, "T" if writes == 1 else "T * num_householder", "q" if writes == 1 else "k", k.shape)
    require(HV % H == 0, "{}: the {} heads of v must be a multiple of the {} heads of q and k", function, HV, H)
    require(K <= MAX_HEAD_DIM and V <= MAX_HEAD_DIM, "{}: heads are at most {} wide, but K = {} and V = {}", function,
            MAX_HEAD_DIM, K, V)
    return B, T, HV, K, V


def check_sequences(function: str, batch: int, cu_seqlens: torch.Tensor | None) -> int:
    """Returns the number of sequences N. Packed sequences need a batch of 1."""
    if cu_seqlens is None:
        return batch
    check_tensor(function, "cu_seqlens", cu_seqlens, "of N + 1 integers, such as torch.tensor([0, 3, 7])")
    require(cu_seqlens.ndim == 1 and cu_seqlens.shape[0] >= 2,
            "{}: cu_seqlens must be [N + 1] offsets of N >= 1 sequences, but has shape {}", function, cu_seqlens.shape)
    require(batch == 1, "{}: packed sequences (cu_seqlens) need a batch of 1, but the batch is {}; concatenate the "
                        "sequences along T", function, batch)
    return cu_seqlens.shape[0] - 1


def check_state(function: str, initial_state: torch.Tensor, shape: Sequence[int], like: torch.Tensor) -> None:
    """Checks an initial state of `shape` [N, HV, K, V], or [N, HV, V, K] with state_v_first."""
    check_tensor(function, "initial_state", initial_state, "[N, HV, K, V], or [N, HV, V, K] with state_v_first")
    require(initial_state.ndim == 4, "{}: initial_state must have four dimensions, but has shape {}", function,
            initial_state.shape)
    require(initial_state.shape[0] == shape[0], "{}: initial_state holds {} states, but there are {} sequences", function,
            initial_state.shape[0], shape[0])
    check_shape(function, "initial_state", initial_state, shape)
    allowed = (torch.float32, torch.float64) if like.dtype == torch.float64 else (torch.float32,)
    require(initial_state.dtype in allowed,
            "{}: initial_state has dtype {}, but must be float32 (float64 with float64 inputs)", function,
            initial_state.dtype)

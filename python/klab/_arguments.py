"""Checks of arguments that the public functions share. Messages name the argument, what it is and what would be right.

Written out in Python although the operators check too: here they are found while torch.compile traces, and the type of the
exception is flash-linear-attention's.
"""

import warnings

import torch

from klab.errors import require

MAX_HEAD_DIM = 256

# How flash-linear-attention computes; not what.
_WITHOUT_EFFECT = ("cu_seqlens_cpu", "chunk_indices", "safe_gate", "disable_recompute", "max_num_seqs")
# What it has and klab has not.
_REFUSED = ("cp_context", "return_intermediate_states", "use_graph", "reverse", "gv", "inplace_final_state", "out",
            "ssm_state_indices", "num_accepted_tokens", "seq_idx")


def check_extra(function, extra, state_v_first=False):
    """Judges keyword arguments outside the signature; returns state_v_first, which had another name once."""
    for name, value in extra.items():
        if name == "head_first":
            raise DeprecationWarning(f"{function}: head_first was removed; inputs are [B, T, H, ...]")
        if name == "transpose_state_layout":
            require(not state_v_first, f"{function}: transpose_state_layout is the old name of state_v_first; give one")
            warnings.warn("transpose_state_layout is now called state_v_first", DeprecationWarning, stacklevel=4)
            state_v_first = value
        elif name in _REFUSED:
            if value is not None and value is not False:
                raise NotImplementedError(f"{function}: {name} = {value!r} is not supported")
        elif name not in _WITHOUT_EFFECT:
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")
    return state_v_first


def check_chunk_size(function, chunk_size):
    """The kernels choose their own; a wrong one is still a mistake of the caller's."""
    require(chunk_size in (None, 16, 32, 64), f"{function}: chunk_size must be 16, 32 or 64, but is {chunk_size}")


def check_shape(function, name, tensor, shape):
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{function}: {name} must be a tensor of shape {list(shape)}, but is {tensor!r}")
    require(tuple(tensor.shape) == tuple(shape),
            f"{function}: {name} has shape {list(tensor.shape)}, but must have {list(shape)}")


def check_heads(function, q, k, v):
    """q, k [B, T, H, K]; v [B, T, HV, V]. Returns B, T, HV, K, V."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        require(x.ndim == 4, f"{function}: {name} must have four dimensions [B, T, heads, width], but is {list(x.shape)}")
    check_shape(function, "k", k, q.shape)
    B, T, H, K = q.shape
    HV, V = v.shape[2:]
    require(v.shape[:2] == q.shape[:2],
            f"{function}: v has shape {list(v.shape)}, but must begin with the [B, T] = {[B, T]} of q")
    require(HV % H == 0, f"{function}: the {HV} heads of v must be a multiple of the {H} heads of q and k")
    require(K <= MAX_HEAD_DIM and V <= MAX_HEAD_DIM,
            f"{function}: heads are at most {MAX_HEAD_DIM} wide, but K = {K} and V = {V}")
    return B, T, HV, K, V


def check_sequences(function, batch, cu_seqlens):
    """Returns the number of sequences N."""
    if cu_seqlens is None:
        return batch
    require(batch == 1, f"{function}: packed sequences (cu_seqlens) need a batch of 1, but the batch is {batch}; "
                        "concatenate the sequences along T")
    return cu_seqlens.shape[0] - 1


def check_state(function, initial_state, shape, like):
    """`shape` [N, HV, K, V], or [N, HV, V, K] where the caller stores states so."""
    require(initial_state.shape[0] == shape[0],
            f"{function}: initial_state holds {initial_state.shape[0]} states, but there are {shape[0]} sequences")
    check_shape(function, "initial_state", initial_state, shape)
    allowed = (torch.float32, torch.float64) if like.dtype == torch.float64 else (torch.float32,)
    require(initial_state.dtype in allowed,
            f"{function}: initial_state has dtype {initial_state.dtype}, but must be float32 (float64 with float64 inputs)")

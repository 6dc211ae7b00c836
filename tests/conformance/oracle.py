# SPDX-License-Identifier: Apache-2.0
"""Reference implementations: the recurrences token by token in float64, and access to fla-core's naive forms (which
compute in float32)."""

import contextlib
import ctypes
import importlib.util
import pathlib

import torch
from torch.utils.checkpoint import checkpoint

BLOCK = 64  # tokens between the states kept for the backward pass, which recomputes the steps between
LIBC = ctypes.CDLL(None)
CACHED = 2**15  # state elements (heads K V) processed together, few enough to stay in the CPU cache


@contextlib.contextmanager
def one_thread():
    """The references compute thousands of tiny products, for which a second thread has no work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def naive(operator):
    """The module fla/ops/<operator>/naive.py of the installed fla-core, without importing its package, which needs a GPU."""
    folder = pathlib.Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(f"naive_{operator.replace('/', '_')}",
                                                  folder / "ops" / operator / "naive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _step(S, q, k, v, g, beta, a, b):
    """One token: S [R, K, V] for R heads; q, k, a, b [R, K]; v [R, V]; g [R, K or 1]; beta [R, 1]. Returns S, o [R, V]."""
    erased = None if a is None else b.unsqueeze(-1) * (a.unsqueeze(-2) @ S)
    if g is not None:
        S = S * g.exp().unsqueeze(-1)
    if beta is not None:
        v = beta * (v - (k.unsqueeze(-2) @ S).squeeze(-2))
    S = S + k.unsqueeze(-1) * v.unsqueeze(-2)
    if erased is not None:
        S = S + erased
    return S, (q.unsqueeze(-2) @ S).squeeze(-2)


def _steps(S, *inputs):
    outputs = []
    for now in zip(*([None] * len(inputs[0]) if x is None else x.unbind() for x in inputs)):
        S, o = _step(S, *now)
        outputs.append(o)
    return S, torch.stack(outputs)


def _return_memory():
    """Returns freed memory to the system: glibc before 2.38 does not reuse the gaps that freed aligned tensors leave,
    which adds up to tens of gigabytes in a long run."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


def _sequence(S, *inputs):
    """All tokens of one sequence: S [R, K, V], inputs [T, R, ...]."""
    T, outputs = len(inputs[0]), []
    for start in range(0, T, BLOCK):
        block = [None if x is None else x[start:start + BLOCK] for x in inputs]
        if T > 4 * BLOCK and torch.is_grad_enabled():
            S, o = checkpoint(_steps, S, *block, use_reentrant=False)
            _return_memory()
        else:
            S, o = _steps(S, *block)
        outputs.append(o)
    return S, torch.cat(outputs)


def _by_heads(S, *inputs):
    """_sequence() for a few heads at a time: states that fit the cache are faster, and large ones fragment the heap."""
    some = max(1, CACHED // S[0].numel())
    parts = [_sequence(S[r:r + some], *(None if x is None else x[:, r:r + some] for x in inputs))
             for r in range(0, len(S), some)]
    return torch.cat([state for state, _ in parts]), torch.cat([o for _, o in parts], 1)


def recurrence(q, k, v, g=None, beta=None, a=None, b=None, scale=None, initial_state=None, cu_seqlens=None):
    """(o [B, T, HV, V], final states [N, HV, K, V]) in the inputs' dtype (float64). Layouts as in klab.recurrences."""
    B, T, H, K = q.shape
    HV, V = v.shape[2:]
    q = q.repeat_interleave(HV // H, 2) * (K ** -0.5 if scale is None else scale)
    k = k.repeat_interleave(HV // H, 2)
    g = g.unsqueeze(-1) if g is not None and g.ndim == 3 else g
    beta = None if beta is None else beta.unsqueeze(-1)
    inputs = [None if x is None else x.transpose(0, 1).flatten(1, 2) for x in (q, k, v, g, beta, a, b)]
    cuts = [0, T] if cu_seqlens is None else cu_seqlens.tolist()
    N = B if cu_seqlens is None else len(cuts) - 1
    S = (q.new_zeros(N, HV, K, V) if initial_state is None else initial_state).flatten(0, 1)
    states, outputs = [], []
    for n, (start, end) in enumerate(zip(cuts, cuts[1:])):
        state, o = _by_heads(S if cu_seqlens is None else S[n * HV:(n + 1) * HV],
                             *(None if x is None else x[start:end] for x in inputs))
        states.append(state)
        outputs.append(o)
    return torch.cat(outputs).unflatten(1, (B, HV)).transpose(0, 1), torch.cat(states).unflatten(0, (N, HV))


def l2norm(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def gate(raw, A_log, dt_bias, lower_bound):
    """Log decay from raw [B, T, H, K], or [B, T, H] with one bias per head: -exp(A_log) softplus(raw + dt_bias), or with
    a lower bound lower_bound sigmoid(exp(A_log) (raw + dt_bias))."""
    x = raw if dt_bias is None else raw + dt_bias.view(raw.shape[2:])
    rate = torch.ones((), dtype=raw.dtype) if A_log is None else A_log.exp().view(-1, *[1] * (raw.ndim - 3))
    if lower_bound is not None:
        return lower_bound * torch.sigmoid(rate * x)
    return -rate * torch.logaddexp(x, torch.zeros((), dtype=x.dtype))

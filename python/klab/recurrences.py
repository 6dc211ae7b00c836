# SPDX-License-Identifier: Apache-2.0
"""The recurrence family with the function names and arguments of flash-linear-attention.

Every function computes o_t = S_t^T (scale q_t), read after write, for a state S [K, V] per head that every token decays
and writes to. The functions differ in this state update (tables 6 and 7 of arXiv 2510.26692).

Shapes and dtypes of all functions:

    q, k            [B, T, H, K]     float32, bfloat16, float16 or float64; any T >= 1, K <= 256
    v, o            [B, T, HV, V]    HV a multiple of H: value head h reads query and key head h // (HV / H); V <= 256
    g               [B, T, HV, K] or [B, T, HV], the log-decay, natural log, <= 0; -1000 and -inf are exact
    beta            [B, T, HV]
    states          [N, HV, K, V] float32 (float64 with float64 inputs); [N, HV, V, K] with state_v_first
    cu_seqlens      [N + 1] integer offsets of packed sequences, from 0 to T (needs B = 1); without it N = B

Sums are accumulated in float32 (float64 for float64 inputs) and o is rounded once to the dtype of v. `scale` is K^-0.5 if
None. The second result is the state after the last token if output_final_state, else None. All functions are differentiable
once, backward, in every tensor except cu_seqlens; torch.func.grad and other function transforms that differentiate do not
work, because torch supports them for no operator whose backward pass is written in C++. chunk_size is checked and otherwise
ignored: the kernels choose their own. chunk_* and fused_recurrent_* compute the same.

Arguments that affect only speed or memory in flash-linear-attention (cu_seqlens_cpu, chunk_indices, safe_gate,
disable_recompute, max_num_seqs) are accepted and ignored.

All functions raise klab.ArgumentError, which is a ValueError and an AssertionError, for wrong shapes, dtypes, offsets and
combinations; NotImplementedError for arguments of flash-linear-attention that klab does not support; TypeError for an
unknown keyword, and for anything else in place of a tensor (cu_seqlens as a list); DeprecationWarning (as an exception) for
head_first.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from klab import _arguments as arguments
from klab.errors import require

Tensor = torch.Tensor
Output = tuple[Tensor, Tensor | None]  # o [B, T, HV, V], final state [N, HV, K, V] or None


class Gate(NamedTuple):
    """The parameters of the gate that maps a raw g to the log-decay, see chunk_kda()."""

    A_log: Tensor | None
    dt_bias: Tensor | None
    lower_bound: float | None


class States(NamedTuple):
    """The initial state, and which states are returned."""

    initial: Tensor | None
    output_final: bool
    v_first: bool  # states are [.., V, K]
    cu_seqlens: Tensor | None
    output_all: bool = False  # return the states after every token instead of the final state


def _flat(x: Tensor | None) -> Tensor | None:
    """Flattens A_log and dt_bias, whose shape may be [HV * K], [HV, K], [1, 1, HV, 1], ..."""
    return None if x is None else x.reshape(-1)


def _needs_gradient(tensors: Iterable[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def apply(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor | None, a: Tensor | None, b: Tensor | None,
          states: States, scale: float | None, qk_l2norm: bool = False, gate: Gate | None = None,
          beta_sigmoid: bool = False, allow_neg_eigval: bool = False, writes: int = 1) -> Output:
    """Calls klab::recurrence; the caller has checked the arguments. Returns (o, final state, all states or None)."""
    A_log, dt_bias = (None, None) if gate is None else (_flat(gate.A_log), _flat(gate.dt_bias))
    initial = states.initial.transpose(-1, -2) if states.v_first and states.initial is not None else states.initial
    tensors = (q, k, v, g, beta, a, b, initial, states.cu_seqlens, A_log, dt_bias)
    options = (None if scale is None else float(scale), qk_l2norm, gate is not None,
               None if gate is None else gate.lower_bound, beta_sigmoid, allow_neg_eigval, writes)
    if states.output_all:
        require(not _needs_gradient(tensors) and states.cu_seqlens is None,
                "output_all_states excludes gradients (call it under torch.no_grad()) and cu_seqlens")
        o, all_states = torch.ops.klab.recurrence_all_states(*tensors, *options)
        return o, all_states.transpose(-1, -2).contiguous() if states.v_first else all_states
    o, final, _, _ = torch.ops.klab.recurrence(*tensors, *options)
    if not states.output_final:
        return o, None
    return o, final.transpose(-1, -2).contiguous() if states.v_first else final


Named = Iterable[tuple[str, Tensor]]


def _check(function: str, q: Tensor, k: Tensor, v: Tensor, states: States, per_key: Named = (),
           per_head: Named = (), per_write: Named = (), writes: int = 1) -> None:
    """`per_key`, `per_head`, `per_write`: (name, tensor) of shapes [B, T, HV, K], [B, T, HV] and [B, T * writes, HV]."""
    B, T, HV, K, V = arguments.check_heads(function, q, k, v, writes)
    N = arguments.check_sequences(function, B, states.cu_seqlens)
    for name, x in per_key:
        arguments.check_shape(function, name, x, (B, T, HV, K))
    for name, x in per_head:
        arguments.check_shape(function, name, x, (B, T, HV))
    for name, x in per_write:
        arguments.check_shape(function, name, x, (B, T * writes, HV))
    if states.initial is not None:
        state = (V, K) if states.v_first else (K, V)
        arguments.check_state(function, states.initial, (N, HV, *state), like=v)


def _check_gate(function: str, gate: Gate, safe_gate: bool) -> None:
    require(gate.A_log is not None or gate.lower_bound is not None,
            "{}: use_gate_in_kernel needs A_log (only a lower_bound makes it optional)", function)
    require(gate.lower_bound is not None or not safe_gate,
            "{}: safe_gate with use_gate_in_kernel needs a lower_bound", function)
    require(gate.lower_bound is None or -5 <= gate.lower_bound < 0, "{}: lower_bound = {} does not lie in [-5, 0)",
            function, gate.lower_bound)


def _check_beta(function: str, beta_sigmoid: bool, allow_neg_eigval: bool) -> None:
    require(beta_sigmoid or not allow_neg_eigval,
            "{}: allow_neg_eigval doubles the sigmoid of beta and needs use_beta_sigmoid_in_kernel", function)


def _ones_per_head(v: Tensor) -> Tensor:
    return v.new_ones(v.shape[:3])


# --- Kimi Delta Attention ---------------------------------------------------------------------------------------------


def _kda(function: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None, states: States,
         qk_l2norm: bool, gate: Gate | None, beta_sigmoid: bool, allow_neg_eigval: bool,
         extra: Mapping[str, object]) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    if gate is not None:
        _check_gate(function, gate, bool(extra.get("safe_gate", False)))
    _check_beta(function, beta_sigmoid, allow_neg_eigval)
    _check(function, q, k, v, states, per_key=[("g", g)], per_head=[("beta", beta)])
    return apply(q, k, v, g, beta, None, None, states, scale, qk_l2norm, gate, beta_sigmoid, allow_neg_eigval)


def chunk_kda(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
              initial_state: Tensor | None = None, output_final_state: bool = False,
              use_qk_l2norm_in_kernel: bool = False, use_gate_in_kernel: bool = False,
              use_beta_sigmoid_in_kernel: bool = False, allow_neg_eigval: bool = False, A_log: Tensor | None = None,
              dt_bias: Tensor | None = None, lower_bound: float | None = None, state_v_first: bool = False,
              cu_seqlens: Tensor | None = None, chunk_size: int | None = None, **extra: object) -> Output:
    """Kimi Delta Attention: S <- Diag(e^g) S; S <- S + beta k (v - S^T k)^T. Equation 1 of arXiv 2510.26692.

    Args:
        g: [B, T, HV, K], the log-decay per channel; with use_gate_in_kernel a raw projection.
        beta: [B, T, HV], the write strength; with use_beta_sigmoid_in_kernel a raw projection.
        use_qk_l2norm_in_kernel: divide q and k by sqrt(sum x^2 + 1e-6) first.
        use_gate_in_kernel: the log-decay is -exp(A_log) softplus(g + dt_bias), or with lower_bound in [-5, 0)
            lower_bound sigmoid(exp(A_log) (g + dt_bias)).
        use_beta_sigmoid_in_kernel: use sigmoid(beta).
        allow_neg_eigval: use 2 sigmoid(beta); needs use_beta_sigmoid_in_kernel.
        A_log: HV elements; may be None with a lower_bound.
        dt_bias: HV * K elements, or None.
    Returns:
        (o [B, T, HV, V], final state [N, HV, K, V] or None).
    Raises:
        ArgumentError: see the module docstring; also for allow_neg_eigval without use_beta_sigmoid_in_kernel, a missing
            A_log, or a lower_bound outside [-5, 0).
    """
    arguments.check_chunk_size("chunk_kda", chunk_size)
    gate = Gate(A_log, dt_bias, lower_bound) if use_gate_in_kernel else None
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _kda("chunk_kda", q, k, v, g, beta, scale, states, use_qk_l2norm_in_kernel, gate, use_beta_sigmoid_in_kernel,
                allow_neg_eigval, extra)


def fused_recurrent_kda(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
                        initial_state: Tensor | None = None, output_final_state: bool = False,
                        use_qk_l2norm_in_kernel: bool = False, use_gate_in_kernel: bool = False,
                        use_beta_sigmoid_in_kernel: bool = False, allow_neg_eigval: bool = False,
                        A_log: Tensor | None = None, dt_bias: Tensor | None = None, lower_bound: float | None = None,
                        state_v_first: bool = False, cu_seqlens: Tensor | None = None, *,
                        output_all_states: bool = False, **extra: object) -> Output:
    """chunk_kda() for few tokens (decode): the same arguments without chunk_size, and the same result.

    output_all_states: the second result is the state after every token, [B, T, HV, K, V] in the dtype of the states, for
        speculative decoding; excludes gradients and cu_seqlens.
    """
    gate = Gate(A_log, dt_bias, lower_bound) if use_gate_in_kernel else None
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens, output_all_states)
    return _kda("fused_recurrent_kda", q, k, v, g, beta, scale, states, use_qk_l2norm_in_kernel, gate,
                use_beta_sigmoid_in_kernel, allow_neg_eigval, extra)


# --- Gated DeltaNet ---------------------------------------------------------------------------------------------------


def _decay(function: str, g: Tensor | None, gk: Tensor | None, gate: Gate | None) -> Tensor | None:
    """The sum of the two decays: [B, T, HV], [B, T, HV, K] or None."""
    if gk is None:
        require(g is not None or gate is None, "{}: use_gate_in_kernel needs g, the raw gate", function)
        return g
    require(gate is None, "{}: use_gate_in_kernel computes the decay from g and excludes gk", function)
    return gk if g is None else g.unsqueeze(-1) + gk


def _gated_delta_rule(function: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, gk: Tensor | None,
                      beta: Tensor | None, scale: float | None, states: States, qk_l2norm: bool, gate: Gate | None,
                      beta_sigmoid: bool, allow_neg_eigval: bool, extra: Mapping[str, object]) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    if gate is not None:
        _check_gate(function, gate, bool(extra.get("safe_gate", False)))
    _check_beta(function, beta_sigmoid, allow_neg_eigval)
    beta = _ones_per_head(v) if beta is None else beta
    per_head = [("g", g)] * (g is not None) + [("beta", beta)]
    _check(function, q, k, v, states, per_key=[("gk", gk)] * (gk is not None), per_head=per_head)
    decay = _decay(function, g, gk, gate)
    return apply(q, k, v, decay, beta, None, None, states, scale, qk_l2norm, gate, beta_sigmoid, allow_neg_eigval)


def chunk_gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
                           initial_state: Tensor | None = None, output_final_state: bool = False,
                           use_qk_l2norm_in_kernel: bool = False, *, use_gate_in_kernel: bool = False,
                           use_beta_sigmoid_in_kernel: bool = False, allow_neg_eigval: bool = False,
                           A_log: Tensor | None = None, dt_bias: Tensor | None = None, lower_bound: float | None = None,
                           state_v_first: bool = False, cu_seqlens: Tensor | None = None, chunk_size: int | None = None,
                           **extra: object) -> Output:
    """Gated DeltaNet: S <- e^g S; S <- S + beta k (v - S^T k)^T. Table 6 of arXiv 2510.26692.

    Args:
        g: [B, T, HV], one log-decay per head; with use_gate_in_kernel a raw projection.
        A_log, dt_bias: HV elements each, as in chunk_kda(); dt_bias may be None.
    The other arguments, results and errors are those of chunk_kda().
    """
    arguments.check_chunk_size("chunk_gated_delta_rule", chunk_size)
    gate = Gate(A_log, dt_bias, lower_bound) if use_gate_in_kernel else None
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    require(g is not None and beta is not None, "chunk_gated_delta_rule: g and beta are needed")
    return _gated_delta_rule("chunk_gated_delta_rule", q, k, v, g, None, beta, scale, states, use_qk_l2norm_in_kernel,
                             gate, use_beta_sigmoid_in_kernel, allow_neg_eigval, extra)


def fused_recurrent_gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
                                     beta: Tensor | None = None, scale: float | None = None,
                                     initial_state: Tensor | None = None, output_final_state: bool = False,
                                     use_qk_l2norm_in_kernel: bool = False, *, gk: Tensor | None = None,
                                     use_gate_in_kernel: bool = False, use_beta_sigmoid_in_kernel: bool = False,
                                     allow_neg_eigval: bool = False, A_log: Tensor | None = None,
                                     dt_bias: Tensor | None = None, lower_bound: float | None = None,
                                     state_v_first: bool = False, cu_seqlens: Tensor | None = None,
                                     output_all_states: bool = False, **extra: object) -> Output:
    """chunk_gated_delta_rule() for few tokens (decode). g may be None (no decay), and beta too (ones).

    gk [B, T, HV, K] is a log-decay per channel, added to g if both are given. A decay of values (gv) is not supported.
    output_all_states: as in fused_recurrent_kda().
    """
    gate = Gate(A_log, dt_bias, lower_bound) if use_gate_in_kernel else None
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens, output_all_states)
    return _gated_delta_rule("fused_recurrent_gated_delta_rule", q, k, v, g, gk, beta, scale, states,
                             use_qk_l2norm_in_kernel, gate, use_beta_sigmoid_in_kernel, allow_neg_eigval, extra)


def chunk_gated_delta_product(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor, num_householder: int,
                              scale: float | None = None, initial_state: Tensor | None = None,
                              output_final_state: bool = False, use_qk_l2norm_in_kernel: bool = False, *,
                              state_v_first: bool = False, cu_seqlens: Tensor | None = None,
                              **extra: object) -> Output:
    """Gated DeltaProduct: num_householder writes of the delta rule per token, S <- S + beta k (v - S^T k)^T, after one
    decay S <- e^g S; q reads after the last write. arXiv 2502.10297.

    Args:
        k, v, beta: [B, T * num_householder, ..]; the rows of a token's writes follow each other.
        g: [B, T, HV], one log-decay per head, or [B, T, HV, K], one per channel (which flash-linear-attention does not
            have); None: no decay.
        cu_seqlens: offsets of tokens, not of writes.
    The other arguments, results and errors are those of chunk_kda().
    """
    function = "chunk_gated_delta_product"
    require(num_householder >= 1, "{}: num_householder = {}, but there is at least one write", function, num_householder)
    states = States(initial_state, output_final_state, arguments.check_extra(function, extra, state_v_first), cu_seqlens)
    decay = [] if g is None else [("g", g)]
    _check(function, q, k, v, states, per_key=decay if g is not None and g.ndim == 4 else (),
           per_head=decay if g is not None and g.ndim != 4 else (), per_write=[("beta", beta)], writes=num_householder)
    return apply(q, k, v, g, beta, None, None, states, scale, use_qk_l2norm_in_kernel, writes=num_householder)


# --- DeltaNet ---------------------------------------------------------------------------------------------------------


def _delta_rule(function: str, q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, scale: float | None,
                states: States, qk_l2norm: bool, extra: Mapping[str, object]) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    beta = _ones_per_head(v) if beta is None else beta
    _check(function, q, k, v, states, per_head=[("beta", beta)])
    return apply(q, k, v, None, beta, None, None, states, scale, qk_l2norm)


def chunk_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None = None, scale: float | None = None,
                     initial_state: Tensor | None = None, output_final_state: bool = False,
                     use_qk_l2norm_in_kernel: bool = False, *, state_v_first: bool = False,
                     cu_seqlens: Tensor | None = None, chunk_size: int | None = None, **extra: object) -> Output:
    """DeltaNet: S <- S + beta k (v - S^T k)^T. Table 6 of arXiv 2510.26692.

    beta [B, T, HV], ones when None. The other arguments, results and errors are those of chunk_kda().
    """
    arguments.check_chunk_size("chunk_delta_rule", chunk_size)
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _delta_rule("chunk_delta_rule", q, k, v, beta, scale, states, use_qk_l2norm_in_kernel, extra)


def fused_recurrent_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None = None, scale: float | None = None,
                               initial_state: Tensor | None = None, output_final_state: bool = False,
                               use_qk_l2norm_in_kernel: bool = False, *, state_v_first: bool = False,
                               cu_seqlens: Tensor | None = None, **extra: object) -> Output:
    """chunk_delta_rule() for few tokens (decode)."""
    require(scale is None or scale > 0, "fused_recurrent_delta_rule: scale must be positive, but is {}", scale)
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _delta_rule("fused_recurrent_delta_rule", q, k, v, beta, scale, states, use_qk_l2norm_in_kernel, extra)


# --- Gated linear attention -------------------------------------------------------------------------------------------


def _gla(function: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, scale: float | None, states: States,
         extra: Mapping[str, object], name: str) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    _check(function, q, k, v, states, per_key=[(name, g)] * (g is not None))
    return apply(q, k, v, g, None, None, None, states, scale)


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None,
              initial_state: Tensor | None = None, output_final_state: bool = False, *, state_v_first: bool = False,
              cu_seqlens: Tensor | None = None, chunk_size: int | None = None, **extra: object) -> Output:
    """Gated linear attention: S <- Diag(e^g) S + k v^T, g [B, T, HV, K]. Table 6 of arXiv 2510.26692."""
    arguments.check_chunk_size("chunk_gla", chunk_size)
    require(g is not None, "chunk_gla: g is needed")
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _gla("chunk_gla", q, k, v, g, scale, states, extra, name="g")


def fused_recurrent_gla(q: Tensor, k: Tensor, v: Tensor, gk: Tensor | None = None, gv: Tensor | None = None,
                        scale: float | None = None, initial_state: Tensor | None = None,
                        output_final_state: bool = False, *, state_v_first: bool = False,
                        cu_seqlens: Tensor | None = None, **extra: object) -> Output:
    """chunk_gla() for few tokens (decode). The decay is called gk; None means no decay.

    gv, a decay of values, is not supported.
    """
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _gla("fused_recurrent_gla", q, k, v, gk, scale, states, {"gv": gv, **extra}, name="gk")


def _simple_gla(function: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, g_gamma: Tensor | None,
                scale: float | None, states: States, extra: Mapping[str, object]) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    require(g is None or g_gamma is None, "{}: g and g_gamma exclude each other", function)
    if g_gamma is not None:
        arguments.check_shape(function, "g_gamma", g_gamma, v.shape[2:3])
        g = g_gamma.expand(v.shape[:3])
    _check(function, q, k, v, states, per_head=[("g", g)] * (g is not None))
    return apply(q, k, v, g, None, None, None, states, scale)


def chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, g_gamma: Tensor | None = None,
                     scale: float | None = None, initial_state: Tensor | None = None, output_final_state: bool = False,
                     *, state_v_first: bool = False, cu_seqlens: Tensor | None = None, chunk_size: int | None = None,
                     **extra: object) -> Output:
    """Linear attention with one decay per head: S <- e^g S + k v^T. Mamba2 and RetNet in table 6 of arXiv 2510.26692.

    g [B, T, HV], or g_gamma [HV] for a decay that is the same at every token, or neither for linear attention.
    chunk_size may be any power of two.
    """
    require(chunk_size is None or (chunk_size > 0 and chunk_size & (chunk_size - 1) == 0),
            "chunk_simple_gla: chunk_size must be a power of 2, but is {}", chunk_size)
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _simple_gla("chunk_simple_gla", q, k, v, g, g_gamma, scale, states, extra)


def fused_recurrent_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, g_gamma: Tensor | None = None,
                               scale: float | None = None, initial_state: Tensor | None = None,
                               output_final_state: bool = False, *, state_v_first: bool = False,
                               cu_seqlens: Tensor | None = None, **extra: object) -> Output:
    """chunk_simple_gla() for few tokens (decode)."""
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _simple_gla("fused_recurrent_simple_gla", q, k, v, g, g_gamma, scale, states, extra)


# --- Diagonal plus low rank -------------------------------------------------------------------------------------------


def _dplr(function: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor, scale: float | None,
          states: States, extra: Mapping[str, object]) -> Output:
    states = states._replace(v_first=arguments.check_extra(function, extra, states.v_first))
    _check(function, q, k, v, states, per_key=[("a", a), ("b", b), ("gk", gk)])
    return apply(q, k, v, gk, None, a, b, states, scale)


def chunk_dplr_delta_rule(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor, scale: float | None = None,
                          initial_state: Tensor | None = None, output_final_state: bool = False, *,
                          state_v_first: bool = False, cu_seqlens: Tensor | None = None, chunk_size: int | None = None,
                          lower_bound: float | None = None, **extra: object) -> Output:
    """The general case: S <- Diag(e^gk) S + k v^T + b (a^T S_prev), where a reads the undecayed state.

    a, b, gk [B, T, HV, K]. KDA is a = e^g k, b = -beta k, with the key beta k. RWKV-7 and DPLR in table 6 of
    arXiv 2510.26692. lower_bound, a guarantee that lower_bound <= gk < 0, is checked to be negative and otherwise ignored.
    """
    arguments.check_chunk_size("chunk_dplr_delta_rule", chunk_size)
    require(lower_bound is None or lower_bound < 0, "chunk_dplr_delta_rule: lower_bound = {} is not negative", lower_bound)
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _dplr("chunk_dplr_delta_rule", q, k, v, a, b, gk, scale, states, extra)


def fused_recurrent_dplr_delta_rule(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor,
                                    scale: float | None = None, initial_state: Tensor | None = None,
                                    output_final_state: bool = False, *, state_v_first: bool = False,
                                    cu_seqlens: Tensor | None = None, **extra: object) -> Output:
    """chunk_dplr_delta_rule() for few tokens (decode)."""
    states = States(initial_state, output_final_state, state_v_first, cu_seqlens)
    return _dplr("fused_recurrent_dplr_delta_rule", q, k, v, a, b, gk, scale, states, extra)

"""What PyTorch must know about torch.ops.klab.*: the shapes they give (fake kernels) and how they differentiate.

Each operator and its backward are opaque kernels; this file is the only place that ties them together. The order of the
arguments is that of the schemas in kernels/torch_library.cpp.
"""

import torch
from torch.library import register_autograd, register_fake

SEGMENT = 64  # the CPU kernels keep the state that enters every 64th token
KEY_MULTIPLE, VALUE_MULTIPLE = 16, 32  # ... padded to these widths

_RECURRENCE_TENSORS = 11  # q, k, v, g, beta, a, b, initial_state, cu_seqlens, A_log, dt_bias
_CU_SEQLENS = 8


def _round_up(size, multiple):
    return (size + multiple - 1) // multiple * multiple


def _state_dtype(v):
    return torch.float64 if v.dtype == torch.float64 else torch.float32


def _sequences(batch, cu_seqlens):
    return batch if cu_seqlens is None else cu_seqlens.shape[0] - 1


def _like(x, absent):
    """A gradient of x; nothing, in the dtype of `absent`, where the input is absent."""
    return absent.new_empty([0]) if x is None else x.new_empty(x.shape)


# --- The recurrence ---------------------------------------------------------------------------------------------------


def _keeps(keep, implementation, tensors):
    """Whether the CPU kernels run and store something for the backward pass."""
    present = [x for x in tensors if x is not None]
    return (keep and implementation in ("automatic", "cpu")
            and all(x.device.type == "cpu" and x.dtype != torch.float64 for x in present))


@register_fake("klab::recurrence")
def _(q, k, v, g, beta, a, b, initial_state, cu_seqlens, A_log, dt_bias, scale, qk_l2norm, gate, lower_bound,
      beta_sigmoid, allow_neg_eigval, implementation, keep):
    B, T, _, K = q.shape
    HV, V = v.shape[2:]
    N = _sequences(B, cu_seqlens)
    o = v.new_empty(v.shape)
    final_state = v.new_empty([N, HV, K, V], dtype=_state_dtype(v))
    if not _keeps(keep, implementation, (q, k, v, g, beta, a, b, initial_state)):
        return o, final_state, v.new_empty([0]), v.new_empty([0])
    corrects = beta is not None or a is not None
    corrections = v.new_empty(v.shape if corrects else [0], dtype=torch.float32)
    rows = B * ((T + SEGMENT - 1) // SEGMENT) if cu_seqlens is None else (T + (SEGMENT - 1) * N) // SEGMENT
    state = _round_up(K, KEY_MULTIPLE) * _round_up(V, VALUE_MULTIPLE)
    return o, final_state, corrections, v.new_empty([rows, HV, state], dtype=torch.float32)


@register_fake("klab::recurrence_all_states")
def _(q, k, v, *rest):
    return v.new_empty(v.shape), v.new_empty([*v.shape[:3], k.shape[3], v.shape[3]], dtype=_state_dtype(v))


@register_fake("klab::recurrence_backward")
def _(d_o, d_final_state, corrections, states, q, k, v, g, beta, a, b, initial_state, cu_seqlens, A_log, dt_bias, scale,
      qk_l2norm, gate, *rest):
    parameters = (A_log, dt_bias) if gate else (None, None)
    return [_like(x, absent=v) for x in (q, k, v, g, beta, a, b, initial_state, *parameters)]


def _recurrence_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:_RECURRENCE_TENSORS], output[2], output[3])
    ctx.options = inputs[_RECURRENCE_TENSORS:-1]
    ctx.set_materialize_grads(False)


def _recurrence_backward(ctx, d_o, d_final_state, d_corrections, d_states):
    *tensors, corrections, states = ctx.saved_tensors
    q, k, v, cu_seqlens = *tensors[:3], tensors[_CU_SEQLENS]
    if d_o is None:
        d_o = torch.zeros_like(v)
    if d_final_state is None:
        shape = [_sequences(q.shape[0], cu_seqlens), v.shape[2], k.shape[3], v.shape[3]]
        d_final_state = v.new_zeros(shape, dtype=_state_dtype(v))
    gradients = torch.ops.klab.recurrence_backward(d_o, d_final_state, corrections, states, *tensors, *ctx.options)
    gradients.insert(_CU_SEQLENS, None)
    return *_given(gradients, tensors, ctx.needs_input_grad), *([None] * (len(ctx.options) + 1))


def _given(gradients, inputs, wanted):
    return [gradient if x is not None and want else None for gradient, x, want in zip(gradients, inputs, wanted)]


register_autograd("klab::recurrence", _recurrence_backward, setup_context=_recurrence_context)


# --- The short convolution --------------------------------------------------------------------------------------------


@register_fake("klab::short_conv")
def _(x, weight, bias, activation, initial_state, cu_seqlens):
    N = _sequences(x.shape[0], cu_seqlens)
    return x.new_empty(x.shape), x.new_empty([N, weight.shape[1] - 1, x.shape[2]])


@register_fake("klab::short_conv_backward")
def _(d_y, d_final_state, x, weight, bias, activation, initial_state, cu_seqlens):
    return [_like(tensor, absent=x) for tensor in (x, weight, bias, initial_state)]


def _short_conv_context(ctx, inputs, output):
    x, weight, bias, activation, initial_state, cu_seqlens = inputs
    ctx.save_for_backward(x, weight, bias, initial_state, cu_seqlens)
    ctx.activation = activation
    ctx.set_materialize_grads(False)


def _short_conv_backward(ctx, d_y, d_final_state):
    x, weight, bias, initial_state, cu_seqlens = ctx.saved_tensors
    if d_y is None:
        d_y = torch.zeros_like(x)
    if d_final_state is None:
        d_final_state = x.new_zeros([_sequences(x.shape[0], cu_seqlens), weight.shape[1] - 1, x.shape[2]])
    d_x, d_weight, d_bias, d_initial_state = torch.ops.klab.short_conv_backward(
        d_y, d_final_state, x, weight, bias, ctx.activation, initial_state, cu_seqlens)
    return (d_x, d_weight, None if bias is None else d_bias, None,
            None if initial_state is None else d_initial_state, None)


register_autograd("klab::short_conv", _short_conv_backward, setup_context=_short_conv_context)


# --- The gated norm ---------------------------------------------------------------------------------------------------


@register_fake("klab::gated_rms_norm")
def _(x, weight, gate, activation, eps):
    return x.new_empty(x.shape)


@register_fake("klab::gated_rms_norm_backward")
def _(d_y, x, weight, gate, activation, eps):
    return [_like(tensor, absent=x) for tensor in (x, weight, gate)]


def _gated_rms_norm_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.activation, ctx.eps = inputs[3:]


def _gated_rms_norm_backward(ctx, d_y):
    gradients = torch.ops.klab.gated_rms_norm_backward(d_y, *ctx.saved_tensors, ctx.activation, ctx.eps)
    return *gradients, None, None


register_autograd("klab::gated_rms_norm", _gated_rms_norm_backward, setup_context=_gated_rms_norm_context)


# --- Second derivatives -----------------------------------------------------------------------------------------------


def _refuse_twice(operator):
    """Without this a second derivative would come out as zero, with a warning."""
    def backward(ctx, *gradients):
        raise NotImplementedError(f"klab::{operator} is differentiable once")

    register_autograd(f"klab::{operator}_backward", backward)


for _operator in ("recurrence", "short_conv", "gated_rms_norm"):
    _refuse_twice(_operator)


# --- Latent attention -------------------------------------------------------------------------------------------------


@register_fake("klab::latent_attention")
def _(q, cache, value_dim, scale):
    return q.new_empty([*q.shape[:3], value_dim])

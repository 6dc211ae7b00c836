# SPDX-License-Identifier: Apache-2.0
"""Makes transformers' own Kimi Linear model use klab's operators on the CPU.

    from klab.integrations import transformers
    transformers.enable()      # for all models, including existing ones
    transformers.disable()
    with transformers.enable(): ...

The model's layers look up their functions in the module `modeling_kimi_linear` at every call, so enable() replaces them
there, as well as the forward method of the gated norm's class. Calls with tensors on another device, or with arguments
that the operators do not support, use the original functions. For packed sequences pass `cu_seqlens` or `seq_idx` to the
model.
"""

import functools
import importlib

import torch

from klab import recurrences

KNOWN_VERSIONS = ("5.23",)
MODULE = "transformers.models.kimi_linear.modeling_kimi_linear"

_originals: dict = {}


class Enabled:
    """The result of enable(), usable as a context manager: on exit it undoes the effect of that call."""

    def __init__(self, undo: bool):
        self._undo = undo

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._undo:
            disable()


def enable() -> Enabled:
    """Replaces the functions. Raises ImportError if transformers is missing or is not one of KNOWN_VERSIONS."""
    if _originals:
        return Enabled(undo=False)
    modeling = _modeling()
    for name, make in _REPLACEMENTS.items():
        _originals[name] = getattr(modeling, name)
        setattr(modeling, name, make(_originals[name]))
    norm = modeling.KimiLinearRMSNormGated
    _originals["norm"] = norm.forward
    norm.forward = _gated_rms_norm(norm.forward)
    return Enabled(undo=True)


def disable() -> None:
    """Restores transformers' own functions. Does nothing if they are in place."""
    if not _originals:
        return
    modeling = importlib.import_module(MODULE)
    modeling.KimiLinearRMSNormGated.forward = _originals.pop("norm")
    for name in _REPLACEMENTS:
        setattr(modeling, name, _originals.pop(name))


def _modeling():
    import transformers

    if not transformers.__version__.startswith(tuple(version + "." for version in KNOWN_VERSIONS)):
        raise ImportError(f"klab supports the Kimi Linear model of transformers {', '.join(KNOWN_VERSIONS)}, but "
                          f"{transformers.__version__} is installed")
    modeling = importlib.import_module(MODULE)
    missing = [name for name in (*_REPLACEMENTS, "KimiLinearRMSNormGated") if not hasattr(modeling, name)]
    if missing:
        raise ImportError(f"klab: {MODULE} has no {', '.join(missing)}")
    return modeling


def _offsets(cu_seqlens, seq_idx):
    """cu_seqlens [N + 1] from either of transformers' two forms of packed sequences, or None. seq_idx is [1, T]."""
    if cu_seqlens is not None or seq_idx is None:
        return cu_seqlens
    changes = (seq_idx[0, 1:] != seq_idx[0, :-1]).nonzero().flatten() + 1
    ends = changes.new_tensor([seq_idx.shape[1]])
    return torch.cat([torch.zeros_like(ends), changes, ends])


def _delta_attention(original):
    """query, key [B, T, H, K], value [B, T, H, V], g [B, T, H, K], beta [B, T, H], states [B, H, K, V] float32."""

    @functools.wraps(original)
    def kimi_delta_attention(query, key, value, g, beta, *, initial_state=None, output_final_state=False,
                             use_qk_l2norm_in_kernel=False, cu_seqlens=None, seq_idx=None, **kwargs):
        if query.device.type != "cpu":
            packed = {name: x for name, x in (("cu_seqlens", cu_seqlens), ("seq_idx", seq_idx)) if x is not None}
            return original(query, key, value, g=g, beta=beta, initial_state=initial_state,
                            output_final_state=output_final_state, use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
                            **packed, **kwargs)
        states = recurrences.States(initial_state, output_final_state, False, _offsets(cu_seqlens, seq_idx))
        o, state = recurrences.apply(query, key, value, g, beta, None, None, states, None, use_qk_l2norm_in_kernel)
        return o.to(query.dtype), state

    return kimi_delta_attention


def _silu_only(activation):
    return {None: "", "silu": "silu", "swish": "silu"}.get(activation)


def _convolve(x, weight, bias, activation, past=None, offsets=None):
    """x and result [B, D, T], past [B, D, W - 1]. Computed in the dtype of weight [D, W], returned in that of x."""
    tokens = x.transpose(1, 2).to(weight.dtype)
    past = None if past is None else past.transpose(1, 2).to(weight.dtype)
    y, _ = torch.ops.klab.short_conv(tokens, weight, bias, activation, past, offsets)
    return y.to(x.dtype).transpose(1, 2)


def _causal_conv1d_fn(original):
    @functools.wraps(original)
    def causal_conv1d_fn(hidden_states, weight, bias=None, activation=None, cu_seqlens=None, seq_idx=None, **kwargs):
        if hidden_states.device.type != "cpu" or _silu_only(activation) is None:
            packed = {name: x for name, x in (("cu_seqlens", cu_seqlens), ("seq_idx", seq_idx)) if x is not None}
            return original(hidden_states, weight=weight, bias=bias, activation=activation, **packed, **kwargs)
        return _convolve(hidden_states, weight, bias, _silu_only(activation), offsets=_offsets(cu_seqlens, seq_idx))

    return causal_conv1d_fn


def _causal_conv1d_update(original):
    """hidden_states [B, D, T] follow conv_state [B, D, S], S >= W - 1, newest last, which is updated in place."""

    @functools.wraps(original)
    def causal_conv1d_update(hidden_states, conv_state, weight, bias=None, activation=None):
        taps = weight.shape[-1] - 1
        if hidden_states.device.type != "cpu" or _silu_only(activation) is None or conv_state.shape[-1] < taps:
            return original(hidden_states, conv_state, weight, bias=bias, activation=activation)
        past = conv_state[..., conv_state.shape[-1] - taps:].clone()  # autograd saves it, and the state changes below
        y = _convolve(hidden_states, weight, bias, _silu_only(activation), past)
        conv_state.copy_(torch.cat([conv_state, hidden_states], -1)[..., -conv_state.shape[-1]:])
        return y

    return causal_conv1d_update


def _gated_rms_norm(original):
    @functools.wraps(original)
    def forward(self, hidden_states, gate=None):
        if hidden_states.device.type != "cpu" or gate is None or self.activation != "sigmoid":
            return original(self, hidden_states, gate)
        return torch.ops.klab.gated_rms_norm(hidden_states, self.weight, gate, "sigmoid", self.variance_epsilon)

    return forward


_REPLACEMENTS = {
    "chunk_kimi_delta_attention": _delta_attention,
    "recurrent_kimi_delta_attention": _delta_attention,
    "causal_conv1d_fn": _causal_conv1d_fn,
    "causal_conv1d_update": _causal_conv1d_update,
}

# SPDX-License-Identifier: Apache-2.0
"""Reference implementations ("yardsticks") of the C++ mixers and of the mixture of experts: transformers' layer where it
has one, otherwise projections in plain torch around fla-core's naive recurrences. A new mixer needs one function here:

    @yardstick("name", {}, {"option": 3}, default_of_an_option=2)
    def name(p, x, s, o): ...

The decorator's dicts are the cases (options of the mixer), its keywords the defaults of the options. p creates random
parameters under their C++ names on first use, x is the input [B, T, D], s has the sizes, o the options; returns y [B, T, D].
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import pathlib
import sys
import types

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from oracle import naive


class Float64(TorchFunctionMode):
    """Replaces casts to float32 by casts to float64: the reference implementations cast to float32 internally, which
    would not allow a tolerance of 1e-10."""

    def __torch_function__(self, function, classes, args=(), kwargs=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


class Parameters:
    """Random parameters, scaled so that every one affects the output. Values are exact in float32, so the float32 and
    float64 runs use the same ones."""

    def __init__(self, generator):
        self.generator, self.drawn = generator, {}

    def __call__(self, name, *shape, scale=1.0, offset=0.0, gradient=True):
        if name not in self.drawn:
            drawn = torch.randn(shape, generator=self.generator) * scale + offset
            self.drawn[name] = drawn.double().requires_grad_(gradient)
        assert self.drawn[name].shape == shape, f"'{name}' was asked for in two shapes"
        return self.drawn[name]

    def weight(self, name, out, width):
        return self(f"{name}.weight", out, width, scale=width ** -0.5)

    def linear(self, name, x, out, bias=False):
        return F.linear(x, self.weight(name, out, x.shape[-1]), self(f"{name}.bias", out) if bias else None)

    def norm(self, name, width):
        return self(name, width, scale=0.3, offset=1.0)

    def conv(self, name, width):
        return self(f"{name}.weight", width, 4, scale=0.5)

    def A_log(self, *shape):
        return self("A_log", *shape, scale=0.5)


@dataclasses.dataclass(frozen=True)
class Sizes:
    B: int
    T: int
    D: int  # width
    H: int  # heads
    K: int  # width of a head


# All widths in a row differ. One row has fewer tokens than the convolution has taps (4); some token counts are odd.
SIZES = (Sizes(2, 19, 20, 3, 8), Sizes(1, 37, 12, 2, 10), Sizes(2, 7, 32, 4, 6), Sizes(2, 2, 14, 3, 4))


@dataclasses.dataclass(frozen=True)
class Case:
    mixer: str
    function: object
    sizes: Sizes
    defaults: dict
    options: dict
    first: bool = False  # first case of its function

    def id(self):
        sizes = "-".join(f"{name}{size}" for name, size in dataclasses.asdict(self.sizes).items())
        return ",".join([self.mixer, self.function.__name__, sizes, *(f"{k}={v}" for k, v in self.options.items())])


YARDSTICKS = {}  # mixer name: list of its cases


def yardstick(mixer, *cases, sizes=SIZES, **defaults):
    """Registers a function with its cases, which are dicts of options. A key `sizes` in a case sets its sizes; otherwise
    case i uses entry i of the argument `sizes`, cyclically."""
    def register(function):
        for i, case in enumerate(cases):
            options = dict(case)
            row = options.pop("sizes", sizes[i % len(sizes)])
            YARDSTICKS.setdefault(mixer, []).append(Case(mixer, function, row, defaults, options, i == 0))
        return function
    return register


def run(case, p, x):
    """y [B, T, D] of the reference implementation, in float64."""
    with Float64():
        return case.function(p, x, case.sizes, types.SimpleNamespace(**{**case.defaults, **case.options}))


# --- Layers of transformers -------------------------------------------------------------------------------------------


@functools.cache
def public(model):
    """transformers' modeling module of a model, on PyTorch functions. fla is hidden during the import, because the module
    would otherwise bind fla's GPU kernels."""
    name = f"transformers.models.{model}.modeling_{model}"
    if name in sys.modules:
        return sys.modules[name]
    hidden = sys.modules.get("fla")
    sys.modules["fla"] = None
    try:
        return importlib.import_module(name)
    finally:
        if hidden is None:
            del sys.modules["fla"]
        else:
            sys.modules["fla"] = hidden


def call(layer, tensors, *inputs, **named):
    """Calls the layer with `tensors` as its parameters and buffers; gradients flow back to the parameters in p."""
    own = {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}
    assert own == set(tensors), f"not mapped: {sorted(own ^ set(tensors))}"
    y = torch.func.functional_call(layer.eval(), tensors, inputs, named)
    return y[0] if isinstance(y, tuple) else y


def causal(T):
    return torch.full((T, T), -torch.inf, dtype=torch.float64).triu(1).view(1, 1, T, T)


@yardstick("kda", {}, {}, {}, {})
def kimi_delta_attention(p, x, s, o):
    kimi = public("kimi_linear")
    config = kimi.KimiLinearConfig(hidden_size=s.D, linear_head_dim=s.K, linear_num_heads=s.H, rms_norm_eps=1e-5)
    wide = s.H * s.K
    tensors = {f"{name}.weight": p.weight(name, wide, s.D) for name in ("q_proj", "k_proj", "v_proj")}
    # transformers has one convolution over q, k and v; klab has three.
    tensors["conv1d.weight"] = torch.cat([p.conv(name, wide) for name in ("q_conv", "k_conv", "v_conv")]).unsqueeze(1)
    tensors |= {f"{name}.weight": p.weight(name, s.K, s.D) for name in ("f_a_proj", "g_a_proj")}
    tensors |= {f"{name}.weight": p.weight(name, wide, s.K) for name in ("f_b_proj", "g_b_proj")}
    tensors |= {"dt_bias": p("dt_bias", wide), "A_log": p.A_log(s.H).view(1, 1, -1, 1),
                "b_proj.weight": p.weight("b_proj", s.H, s.D), "o_norm.weight": p.norm("o_norm", s.K),
                "o_proj.weight": p.weight("o_proj", s.D, wide)}
    gate = ("f_a_proj.weight", "f_b_proj.weight", "dt_bias", "A_log")
    tensors = {f"forget_gate.{name}" if name in gate else name: tensor for name, tensor in tensors.items()}
    return call(kimi.KimiLinearDeltaAttention(config, 0), tensors, x)


def latent_layer(layer_class, config_class, p, s, o, reorder, **settings):
    """(config, layer, tensors) of a transformers layer with latent attention. `reorder` permutes the rows of rotary
    channels from klab's order to the layer's."""
    nope, value, latent = o.nope_dim or s.K, o.value_dim or s.K, o.kv_lora_rank or 4 * s.K
    rope = s.K // 2 if o.rope_dim < 0 else o.rope_dim
    config = config_class(hidden_size=s.D, num_attention_heads=s.H, num_key_value_heads=s.H, kv_lora_rank=latent,
                          qk_rope_head_dim=rope, qk_nope_head_dim=nope, v_head_dim=value,
                          q_lora_rank=o.q_lora_rank or None, **settings)
    config._attn_implementation = "eager"
    layer = layer_class(config, 0)

    def reordered(weight, heads):
        """`reorder` applied to the last `rope` rows of every head."""
        rows = weight.unflatten(0, (heads, -1))
        return torch.cat([rows[:, :-rope], reorder(rows[:, -rope:])], 1).flatten(0, 1) if rope else weight

    tensors = {}
    if o.q_lora_rank:
        tensors["q_a_proj.weight"] = p.weight("q_a_proj", o.q_lora_rank, s.D)
        tensors["q_a_layernorm.weight"] = p.norm("q_a_norm.weight", o.q_lora_rank)
    query = "q_b_proj" if o.q_lora_rank else "q_proj"
    tensors[f"{query}.weight"] = reordered(p.weight(query, s.H * (nope + rope), o.q_lora_rank or s.D), s.H)
    tensors["kv_a_proj_with_mqa.weight"] = reordered(p.weight("kv_a_proj", latent + rope, s.D), 1)
    tensors["kv_a_layernorm.weight"] = p.norm("kv_a_norm.weight", latent)
    tensors["kv_b_proj.weight"] = p.weight("kv_b_proj", s.H * (nope + value), latent)
    tensors["o_proj.weight"] = p.weight("o_proj", s.D, s.H * value)
    if o.norm_eps:  # otherwise the layer keeps its default, which must equal klab's
        layer.kv_a_layernorm.variance_epsilon = o.norm_eps
        if o.q_lora_rank:
            layer.q_a_layernorm.variance_epsilon = o.norm_eps
    return config, layer, tensors


LATENT = dict(nope_dim=0, rope_dim=-1, value_dim=0, kv_lora_rank=0, q_lora_rank=0, norm_eps=0)
ALL_DIFFER = {"nope_dim": 6, "rope_dim": 4, "value_dim": 9, "kv_lora_rank": 11}


@yardstick("mla", {}, ALL_DIFFER, {**ALL_DIFFER, "q_lora_rank": 5, "norm_eps": 0.01},
           {"nope_dim": 5, "rope_dim": 0, "value_dim": 3, "kv_lora_rank": 7}, **LATENT)
def kimi_latent_attention(p, x, s, o):
    kimi = public("kimi_linear")
    _, layer, tensors = latent_layer(kimi.KimiLinearAttention, kimi.KimiLinearConfig, p, s, o, identity)
    return call(layer, tensors, x, causal(s.T))


def interleaved(rows):
    """klab rotates the pairs (i, i + R/2) of R channels, the public checkpoint the pairs (2i, 2i + 1): channel 2i there is
    channel i here, 2i + 1 is i + R/2. Scores are sums over channels, so the order of the rotated channels is irrelevant."""
    return rows.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


@yardstick("mla_rope", {}, {**ALL_DIFFER, "rope_base": 500.0}, {**ALL_DIFFER, "q_lora_rank": 5, "interleave": True},
           {"rope_dim": 10, "value_dim": 7, "interleave": True}, rope_base=10000.0, interleave=False, **LATENT)
def deepseek_attention(p, x, s, o):
    """`interleave` is an option of deepseek_v3: the same layer with its rotary rows in the other order."""
    deepseek = public("deepseek_v3")
    config, layer, tensors = latent_layer(
        deepseek.DeepseekV3Attention, deepseek.DeepseekV3Config, p, s, o, interleaved if o.interleave else identity,
        rope_interleave=o.interleave, rope_parameters={"rope_type": "default", "rope_theta": o.rope_base})
    rotary = deepseek.DeepseekV3RotaryEmbedding(config)(x, torch.arange(s.T).expand(s.B, -1))
    return call(layer, tensors, x, rotary, causal(s.T))


@yardstick("attention_rope", {}, {"kv_heads": 2, "rope_base": 500.0}, {"kv_heads": 1},
           sizes=(Sizes(2, 19, 18, 3, 8), Sizes(1, 37, 12, 6, 10), Sizes(2, 7, 32, 4, 6)), kv_heads=0,
           rope_base=10000.0)
def llama_attention(p, x, s, o):
    llama, kv_heads = public("llama"), o.kv_heads or s.H
    config = llama.LlamaConfig(hidden_size=s.D, num_attention_heads=s.H, num_key_value_heads=kv_heads, head_dim=s.K,
                               rope_parameters={"rope_type": "default", "rope_theta": o.rope_base})
    config._attn_implementation = "eager"
    tensors = {"q_proj.weight": p.weight("q_proj", s.H * s.K, s.D), "o_proj.weight": p.weight("o_proj", s.D, s.H * s.K)}
    tensors |= {f"{name}.weight": p.weight(name, kv_heads * s.K, s.D) for name in ("k_proj", "v_proj")}
    rotary = llama.LlamaRotaryEmbedding(config)(x, torch.arange(s.T).expand(s.B, -1))
    return call(llama.LlamaAttention(config, 0), tensors, x, rotary, causal(s.T))


@yardstick("mamba2", {}, {"state": 5}, {"state": 7, "groups": 2}, {"state": 4, "groups": 3}, {"groups": 2},
           sizes=(Sizes(2, 19, 12, 3, 8), Sizes(1, 37, 10, 2, 10), Sizes(2, 7, 12, 4, 6), Sizes(2, 2, 15, 6, 5),
                  Sizes(2, 19, 16, 4, 8)), state=0, groups=1)
def mamba2_mixer(p, x, s, o):
    mamba, state = public("mamba2"), o.state or s.K
    inner, mixed = s.H * s.K, s.H * s.K + 2 * o.groups * state
    layer = mamba.Mamba2Mixer(mamba.Mamba2Config(hidden_size=s.D, num_heads=s.H, head_dim=s.K, state_size=state,
                                                 expand=inner // s.D, n_groups=o.groups, chunk_size=16), 0)
    tensors = {"in_proj.weight": p.weight("in_proj", inner + mixed + s.H, s.D),
               "conv1d.weight": p.conv("conv", mixed).unsqueeze(1), "conv1d.bias": p("conv.bias", mixed),
               "A_log": p.A_log(s.H), "dt_bias": p("dt_bias", s.H), "D": p("D", s.H),
               "norm.weight": p.norm("norm", inner), "out_proj.weight": p.weight("out_proj", s.D, inner)}
    return call(layer, tensors, x)


@yardstick("gdn", {"output_gate": "swish", "full_rank_gates": True},
           {"output_gate": "swish", "full_rank_gates": True, "value_heads": 6, "key_dim": 5, "value_dim": 9},
           {"output_gate": "swish", "full_rank_gates": True, "value_heads": 8, "value_dim": 3},
           key_dim=0, value_heads=0, value_dim=0)
def qwen_gated_delta_net(p, x, s, o):
    qwen, K, V, HV = public("qwen3_next"), o.key_dim or s.K, o.value_dim or s.K, o.value_heads or s.H
    config = qwen.Qwen3NextConfig(hidden_size=s.D, linear_num_key_heads=s.H, linear_num_value_heads=HV,
                                  linear_key_head_dim=K, linear_value_head_dim=V, rms_norm_eps=1e-5,
                                  num_hidden_layers=1, layer_types=["linear_attention"])
    conv = [p.conv("q_conv", s.H * K), p.conv("k_conv", s.H * K), p.conv("v_conv", HV * V)]

    def by_key_head(*names_and_rows):
        """transformers has one matrix, ordered by key head: the rows of q, k, v and gate of head 0, then of head 1, ..."""
        parts = [p.weight(name, rows, s.D).view(s.H, -1, s.D) for name, rows in names_and_rows]
        return torch.cat(parts, 1).flatten(0, 1)

    tensors = {"in_proj_qkvz.weight": by_key_head(("q_proj", s.H * K), ("k_proj", s.H * K), ("v_proj", HV * V),
                                                  ("g_proj", HV * V)),
               "in_proj_ba.weight": by_key_head(("b_proj", HV), ("a_proj", HV)),
               "conv1d.weight": torch.cat(conv).unsqueeze(1), "dt_bias": p("dt_bias", HV), "A_log": p.A_log(HV),
               "norm.weight": p.norm("o_norm", V), "out_proj.weight": p.weight("o_proj", s.D, HV * V)}
    return call(qwen.Qwen3NextGatedDeltaNet(config, 0), tensors, x)


ROUTED = {"experts": 8, "experts_per_token": 3}


@yardstick("moe", ROUTED, {**ROUTED, "groups": 4, "groups_per_token": 2, "shared_experts": 2},
           {**ROUTED, "groups": 2, "renormalise": False, "scaling": 1.5},
           {"experts": 12, "experts_per_token": 5, "groups": 3, "groups_per_token": 2, "biased_weights": True},
           {**ROUTED, "renormalise": False, "biased_weights": True, "shared_experts": 0},
           {"experts": 4, "experts_per_token": 4},
           groups=1, groups_per_token=1, renormalise=True, scaling=2.446, shared_experts=1, biased_weights=False)
def kimi_experts(p, x, s, o):
    """klab follows transformers: experts of groups that were not selected are never chosen, and the expert weights do not
    include the correction bias. The remote code of the public checkpoint differs in two ways. It scores experts of
    unselected groups as 0, so they can beat selected ones whose bias makes their score negative; klab never does this.
    It keeps the bias in the expert weights; klab does this with the option biased_weights."""
    kimi = public("kimi_linear")
    config = kimi.KimiLinearConfig(
        hidden_size=s.D, moe_intermediate_size=s.K, num_local_experts=o.experts, n_shared_experts=o.shared_experts,
        num_experts_per_tok=o.experts_per_token, n_group=o.groups, topk_group=o.groups_per_token,
        norm_topk_prob=o.renormalise, routed_scaling_factor=o.scaling)
    config._experts_implementation = "eager"
    layer, shared = kimi.KimiLinearMoE(config), o.shared_experts * s.K
    bias = p("correction_bias", o.experts, scale=0.5, gradient=False)  # large, to change many choices

    def stacked(name, *shape):
        return torch.stack([p.weight(f"expert{e}.{name}", *shape) for e in range(o.experts)])

    tensors = {"gate.weight": p.weight("router", o.experts, s.D), "gate.e_score_correction_bias": bias,
               "experts.gate_up_proj": torch.cat([stacked("gate_proj", s.K, s.D), stacked("up_proj", s.K, s.D)], 1),
               "experts.down_proj": stacked("down_proj", s.D, s.K)}
    for name, shape in (("gate_proj", (shared, s.D)), ("up_proj", (shared, s.D)), ("down_proj", (s.D, shared))):
        # transformers creates these weights without shared experts too, with width 0.
        tensors[f"shared_experts.{name}.weight"] = p.weight(f"shared.{name}", *shape) if shared else x.new_empty(shape)

    def biased(router, inputs, outputs):
        logits, _, chosen = outputs
        weights = (logits.sigmoid() + bias).gather(1, chosen)
        if o.renormalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return logits, weights * o.scaling, chosen

    if o.biased_weights:
        layer.gate.register_forward_hook(biased)
    return call(layer, tensors, x)


SOFTMAX = {**ROUTED, "router": "softmax", "shared_gate": True, "scaling": 1.0}


@yardstick("moe", SOFTMAX, {**SOFTMAX, "renormalise": False, "shared_width": 5}, {**SOFTMAX, "shared_width": 13},
           renormalise=True, shared_width=0)
def qwen_experts(p, x, s, o):
    qwen, shared = public("qwen3_next"), o.shared_width or s.K
    config = qwen.Qwen3NextConfig(
        hidden_size=s.D, moe_intermediate_size=s.K, shared_expert_intermediate_size=shared, num_experts=o.experts,
        num_experts_per_tok=o.experts_per_token, norm_topk_prob=o.renormalise)
    config._experts_implementation = "eager"

    def stacked(name, *shape):
        return torch.stack([p.weight(f"expert{e}.{name}", *shape) for e in range(o.experts)])

    tensors = {"gate.weight": p.weight("router", o.experts, s.D),
               "shared_expert_gate.weight": p.weight("shared_gate", 1, s.D),
               "experts.gate_up_proj": torch.cat([stacked("gate_proj", s.K, s.D), stacked("up_proj", s.K, s.D)], 1),
               "experts.down_proj": stacked("down_proj", s.D, s.K)}
    for name, shape in (("gate_proj", (shared, s.D)), ("up_proj", (shared, s.D)), ("down_proj", (s.D, shared))):
        tensors[f"shared_expert.{name}.weight"] = p.weight(f"shared.{name}", *shape)
    return call(qwen.Qwen3NextSparseMoeBlock(config), tensors, x)


# --- Softmax attention ------------------------------------------------------------------------------------------------


def softmax_inputs(p, x, s, o):
    kv_heads = o.kv_heads or s.H
    return (p.linear("q_proj", x, s.H * s.K).unflatten(2, (s.H, s.K)),
            *(p.linear(name, x, kv_heads * s.K).unflatten(2, (kv_heads, s.K)) for name in ("k_proj", "v_proj")))


@yardstick("attention", {}, {"kv_heads": 1}, {"kv_heads": 2}, kv_heads=0)
def torch_attention(p, x, s, o):
    q, k, v = (y.transpose(1, 2) for y in softmax_inputs(p, x, s, o))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return p.linear("o_proj", y.transpose(1, 2).flatten(2), s.D)


@yardstick("fox", {}, {"kv_heads": 1}, {"kv_heads": 2}, kv_heads=0)
def forgetting_attention(p, x, s, o):
    forget = F.logsigmoid(p.linear("f_proj", x, s.H, bias=True))
    y = naive("forgetting_attn").naive_forgetting_attn(*softmax_inputs(p, x, s, o), forget)
    return p.linear("o_proj", y.flatten(2), s.D)


@yardstick("sliding_attention", {"window": 5}, {"window": 3, "kv_heads": 2, "rope_base": 500.0}, {"window": 2},
           {"window": 7, "rope_base": 0.0}, sizes=(Sizes(2, 19, 18, 3, 8), Sizes(1, 37, 12, 6, 10), Sizes(2, 7, 32, 4, 6)),
           kv_heads=0, rope_base=10000.0)
def mistral_attention(p, x, s, o):
    mistral, kv_heads = public("mistral"), o.kv_heads or s.H
    base = o.rope_base or 10000.0
    config = mistral.MistralConfig(hidden_size=s.D, num_attention_heads=s.H, num_key_value_heads=kv_heads, head_dim=s.K,
                                   sliding_window=o.window, rope_parameters={"rope_type": "default", "rope_theta": base})
    config._attn_implementation = "eager"
    tensors = {"q_proj.weight": p.weight("q_proj", s.H * s.K, s.D), "o_proj.weight": p.weight("o_proj", s.D, s.H * s.K)}
    tensors |= {f"{name}.weight": p.weight(name, kv_heads * s.K, s.D) for name in ("k_proj", "v_proj")}
    cos, sin = mistral.MistralRotaryEmbedding(config)(x, torch.arange(s.T).expand(s.B, -1))
    if not o.rope_base:  # angles of zero
        cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
    mask = causal(s.T) + torch.full((s.T, s.T), -torch.inf, dtype=torch.float64).tril(-o.window)
    return call(mistral.MistralAttention(config, 0), tensors, x, (cos, sin), mask)


@yardstick("gated_attention", {}, {"kv_heads": 2, "rope_base": 500.0, "rope_fraction": 0.5}, {"kv_heads": 1},
           {"rope_fraction": 1.0}, {"heads": 6, "head_dim": 16, "kv_heads": 2},
           sizes=(Sizes(2, 19, 18, 3, 8), Sizes(1, 37, 12, 6, 8), Sizes(2, 7, 32, 4, 16)),
           kv_heads=0, rope_base=10000.0, rope_fraction=0.25, heads=0, head_dim=0)
def qwen_gated_attention(p, x, s, o):
    s = dataclasses.replace(s, H=o.heads or s.H, K=o.head_dim or s.K)
    qwen, kv_heads = public("qwen3_next"), o.kv_heads or s.H
    config = qwen.Qwen3NextConfig(hidden_size=s.D, num_attention_heads=s.H, num_key_value_heads=kv_heads, head_dim=s.K,
                                  rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": o.rope_base,
                                                                      "partial_rotary_factor": o.rope_fraction})
    config._attn_implementation = "eager"
    tensors = {"q_proj.weight": p.weight("q_proj", 2 * s.H * s.K, s.D), "o_proj.weight": p.weight("o_proj", s.D, s.H * s.K)}
    tensors |= {f"{name}.weight": p.weight(name, kv_heads * s.K, s.D) for name in ("k_proj", "v_proj")}
    # transformers' norm multiplies by 1 + weight.
    tensors |= {f"{name}.weight": p.norm(f"{name}.weight", s.K) - 1 for name in ("q_norm", "k_norm")}
    rotary = qwen.Qwen3NextRotaryEmbedding(config)(x, torch.arange(s.T).expand(s.B, -1))
    return call(qwen.Qwen3NextAttention(config, 0), tensors, x, rotary, causal(s.T))


# --- Linear mixers: common parts --------------------------------------------------------------------------------------


LINEAR = dict(output_gate="sigmoid", full_rank_gates=False, short_conv=True, key_dim=0, value_heads=0, value_dim=0)
DELTA = dict(LINEAR, allow_neg_eigval=False)
PUBLIC_GATE = dict(LINEAR, output_gate="swish", full_rank_gates=True, short_conv=False)
UNGATED = dict(LINEAR, output_gate="none")

# Every option of a linear mixer on and off; all widths differ.
WIDTHS = {"key_dim": 6, "value_dim": 11}
VARIANTS = ({}, {"output_gate": "swish", "full_rank_gates": True, "short_conv": False, "value_heads": 4, **WIDTHS},
            {"output_gate": "none", "short_conv": True, **WIDTHS},
            {"output_gate": "sigmoid", "full_rank_gates": False, "value_heads": 6, "short_conv": True})
FLIPPING = tuple({**row, "allow_neg_eigval": True} if i % 2 else row for i, row in enumerate(VARIANTS))
BOUNDED = tuple({**row, "lower_bound": -float(i + 1)} if i % 3 else row for i, row in enumerate(FLIPPING))


def widths(s, o):
    """Heads, key width, value heads, value width."""
    return s.H, o.key_dim or s.K, o.value_heads or s.H, o.value_dim or s.K


def convolved(p, name, x):
    weight = p.conv(name, x.shape[2])
    return F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), weight.unsqueeze(1), groups=x.shape[2]).transpose(1, 2)


def read_in(p, x, s, o, bare=F.silu, after_conv=F.silu):
    """q, k [B, T, HV, K], repeated to the value heads, and v [B, T, HV, V]. The activation is `after_conv` with a short
    convolution and `bare` without."""
    H, K, HV, V = widths(s, o)
    parts = []
    for name, heads, width in (("q", H, K), ("k", H, K), ("v", HV, V)):
        y = p.linear(f"{name}_proj", x, heads * width)
        y = after_conv(convolved(p, f"{name}_conv", y)) if o.short_conv else bare(y)
        parts.append(y.unflatten(2, (heads, width)).repeat_interleave(HV // heads, 2))
    return parts


def identity(x):
    return x


def full_or_low(p, x, name, rank, out, o):
    """A projection with one matrix (full_rank_gates) or with two, of the given rank."""
    if o.full_rank_gates:
        return p.linear(f"{name}_proj", x, out)
    return p.linear(f"{name}_b_proj", p.linear(f"{name}_a_proj", x, rank), out)


def read_out(p, x, y, s, o, over_heads=False):
    """Norm, output gate and output projection of y [B, T, HV, V]. With `over_heads`, one RMS norm over all heads and no
    gate."""
    _, _, HV, V = widths(s, o)
    if over_heads:
        return p.linear("o_proj", F.rms_norm(y.flatten(2), (HV * V,), p.norm("o_norm", HV * V), 1e-5), s.D)
    y = F.rms_norm(y, (V,), p.norm("o_norm", V), 1e-5)
    if o.output_gate != "none":
        gate = full_or_low(p, x, "g", V, HV * V, o)
        y = y * {"sigmoid": torch.sigmoid, "swish": F.silu}[o.output_gate](gate).view_as(y)
    return p.linear("o_proj", y.flatten(2), s.D)


def unit(x):
    """L2 normalisation as in fla: eps is added to the sum of squares."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def beta_of(p, x, s, o):
    return p.linear("b_proj", x, widths(s, o)[2]).sigmoid() * (2 if o.allow_neg_eigval else 1)


def head_decay(p, x, s, o):
    HV = widths(s, o)[2]
    return -p.A_log(HV).exp() * F.softplus(p.linear("a_proj", x, HV) + p("dt_bias", HV))


@functools.cache
def of_file(path, name):
    """The plain-torch function `name` from a file of fla-core that cannot be imported without a GPU."""
    folder = pathlib.Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    body = ast.parse((folder / path).read_text()).body
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    place = {"torch": torch, "F": F}
    exec(compile(ast.Module(found, []), str(folder / path), "exec"), place)
    return place[name]


def channel_decay(p, x, s, o):
    _, K, HV, _ = widths(s, o)
    rank = getattr(o, "decay_rank", "gates")
    full = o.full_rank_gates if rank == "gates" else rank == "full"
    raw = full_or_low(p, x, "f", K, HV * K, types.SimpleNamespace(full_rank_gates=full))
    gate = "naive_kda_lowerbound_gate" if o.lower_bound else "naive_kda_gate"
    named = {"lower_bound": o.lower_bound} if o.lower_bound else {}
    return of_file("ops/kda/gate.py", gate)(raw.unflatten(2, (HV, K)), p.A_log(HV), p("dt_bias", HV * K), **named)


def heads_first(function, *inputs):
    """Calls a naive form with layout [B, H, T, ...] on inputs [B, T, H, ...]; drops the state if it returns one."""
    y = function(*(x.transpose(1, 2) for x in inputs))
    return (y[0] if isinstance(y, tuple) else y).transpose(1, 2)


# --- Linear mixers that accumulate ------------------------------------------------------------------------------------


def mapped(p, x, name, feature_map):
    if feature_map == "elementwise_product":
        return (p.linear(f"{name}_map1", x, x.shape[-1], bias=True)
                * p.linear(f"{name}_map2", x, x.shape[-1], bias=True))
    return {"elu": lambda x: F.elu(x) + 1, "relu": F.relu, "identity": identity}[feature_map](x)


@yardstick("linear_attention", *VARIANTS, {"feature_map": "elu", "short_conv": True}, {"feature_map": "relu", **WIDTHS},
           {"feature_map": "identity", "value_heads": 8, "output_gate": "sigmoid"},
           **dict(UNGATED, short_conv=False, feature_map="elementwise_product"))
def linear_attention(p, x, s, o):
    q, k, v = read_in(p, x, s, o, bare=identity)
    q, k = mapped(p, q, "q", o.feature_map), mapped(p, k, "k", o.feature_map)
    return read_out(p, x, naive("linear_attn").naive_recurrent_linear_attn(q, k, v)[0], s, o)


@yardstick("retnet", *VARIANTS, {"rope_base": 500.0}, rope_base=10000.0, **PUBLIC_GATE)
def retention(p, x, s, o):
    """The naive form computes the heads' decays itself. The rotary embedding is Llama's, over all K channels."""
    q, k, v = read_in(p, x, s, o, bare=identity)
    llama, K = public("llama"), q.shape[3]
    config = llama.LlamaConfig(head_dim=K, rope_parameters={"rope_type": "default", "rope_theta": o.rope_base})
    cos, sin = llama.LlamaRotaryEmbedding(config)(x, torch.arange(s.T).expand(s.B, -1))
    q, k = llama.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    return read_out(p, x, heads_first(naive("retention").naive_retention, q, k, v), s, o)


@yardstick("lightning", {}, {}, {})
def minimax_lightning_attention(p, x, s, o):
    """The only layer of its model; its last decay is nearly one."""
    minimax = public("minimax")
    config = minimax.MiniMaxConfig(hidden_size=s.D, num_attention_heads=s.H, head_dim=s.K, num_hidden_layers=1,
                                   layer_types=["linear_attention"], block_size=8, rms_norm_eps=1e-5)
    layer, wide = minimax.MiniMaxLightningAttention(config, 0), s.H * s.K
    layer.norm.variance_epsilon = 1e-5
    # transformers has one projection, ordered by head: q, k and v of head 0, then of head 1, ...
    parts = [p.weight(name, wide, s.D).unflatten(0, (s.H, s.K)) for name in ("q_proj", "k_proj", "v_proj")]
    tensors = {"qkv_proj.weight": torch.cat(parts, 1).flatten(0, 1), "output_gate.weight": p.weight("g_proj", wide, s.D),
               "norm.weight": p.norm("o_norm", wide), "out_proj.weight": p.weight("o_proj", s.D, wide)}
    slope = (2.0 ** (-8 * torch.arange(1, s.H + 1, dtype=torch.float64) / s.H) * (1 + 1e-5)).view(-1, 1, 1)
    decays = zip(("query_decay", "key_decay", "diagonal_decay"), layer.decay_factors(slope))  # float32 in the layer
    return call(layer, {**tensors, "slope_rate": slope, **dict(decays)}, x, None, None)


MAMBA3 = (Sizes(2, 19, 12, 3, 8), Sizes(1, 37, 10, 2, 10), Sizes(2, 7, 12, 4, 6), Sizes(2, 2, 15, 6, 5))


def mamba3_recurrence(p, x, s, o, rank):
    """Token by token, with pairs of channels as complex numbers; no reference runs without a GPU."""
    K, inner, shared = o.state or s.K, s.H * s.K, rank * o.groups * (o.state or s.K)
    pairs = int(K * o.rope_fraction) // 2
    parts = p.linear("in_proj", x, 2 * inner + 2 * shared + 3 * s.H + pairs).split(
        [inner, inner, shared, shared, s.H, s.H, s.H, pairs], -1)
    z, value = (y.unflatten(2, (s.H, s.K)) for y in parts[:2])

    def keys(y, name):
        y = y.unflatten(2, (rank, o.groups, K))
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5) * p.norm(f"{name}_norm.weight", K)
        return y.repeat_interleave(s.H // o.groups, 3) + p(f"{name}_bias", s.H, rank, K, offset=1.0).transpose(0, 1)

    def up(name):
        return p(f"mimo_{name}", s.H, rank, s.K).transpose(0, 1) if rank > 1 else torch.ones(1, s.H, s.K).double()

    B, C = keys(parts[2], "B"), keys(parts[3], "C")
    dt, trapezoid = F.softplus(parts[4] + p("dt_bias", s.H)), parts[6].sigmoid()
    alpha = torch.exp(-dt * F.softplus(parts[5]).clamp_min(1e-4))
    angle = torch.cumsum(torch.pi * parts[7].tanh().unsqueeze(2) * dt.unsqueeze(3), 1)  # [B, T, H, pairs]

    def turned(y):
        turning = torch.view_as_complex(y[..., :2 * pairs].unflatten(-1, (pairs, 2)).contiguous())
        turning = turning * torch.polar(torch.ones_like(angle), angle).unsqueeze(2)
        return torch.cat([torch.view_as_real(turning).flatten(-2), y[..., 2 * pairs:]], -1)

    B, C = (turned(B), turned(C)) if pairs else (B, C)
    value = value.unsqueeze(2) * up("x")  # [B, T, R, H, V]
    writes = torch.einsum("btrhk,btrhv->bthkv", B, value)
    S, outputs = torch.zeros_like(writes[:, 0]), []
    for t in range(s.T):
        def gate(y):
            return y[:, t, :, None, None]
        before = writes[:, t - 1] if t else torch.zeros_like(S)
        S = gate(alpha) * (S + gate((1 - trapezoid) * dt) * before) + gate(trapezoid * dt) * writes[:, t]
        outputs.append(torch.einsum("bhkv,brhk->brhv", S, C[:, t]))
    y = torch.stack(outputs, 1) + p("D", s.H).view(-1, 1) * value
    y = (y * F.silu(z.unsqueeze(2) * up("z")) * up("o")).sum(2)
    return p.linear("out_proj", y.flatten(2), s.D)


@yardstick("mamba3", {}, {"state": 7, "groups": 2}, {"state": 4, "rope_fraction": 1.0}, {"groups": 3, "rope_fraction": 0.0},
           sizes=MAMBA3, state=0, groups=1, rope_fraction=0.5)
def mamba3(p, x, s, o):
    return mamba3_recurrence(p, x, s, o, 1)


@yardstick("mamba3_mimo", {}, {"state": 7, "groups": 2, "rank": 3}, {"state": 4, "rope_fraction": 1.0, "rank": 2},
           {"groups": 3, "rank": 5}, sizes=MAMBA3, state=0, groups=1, rope_fraction=0.5, rank=4)
def mamba3_mimo(p, x, s, o):
    return mamba3_recurrence(p, x, s, o, o.rank)


def level_scales(p, x, heads, o):
    raw = p.linear("level_proj", x, heads * o.levels).unflatten(2, (heads, o.levels))
    return F.softplus(p("L", heads, o.levels, offset=1.0) * raw)


@yardstick("log_linear_mamba2", {}, {"state": 5}, {"state": 7, "groups": 2, "levels": 9}, {"state": 4, "groups": 3},
           sizes=MAMBA3, state=0, groups=1, levels=15)
def log_linear_mamba2(p, x, s, o):
    inner, state = s.H * s.K, o.state or s.K
    mixed = inner + 2 * o.groups * state
    z, xBC, dt = p.linear("in_proj", x, inner + mixed + s.H).split([inner, mixed, s.H], -1)
    xBC = F.silu(convolved(p, "conv", xBC) + p("conv.bias", mixed))
    value, B, C = xBC.split([inner, o.groups * state, o.groups * state], -1)
    value, B, C = value.unflatten(2, (s.H, -1)), B.unflatten(2, (o.groups, -1)), C.unflatten(2, (o.groups, -1))
    dt = F.softplus(dt + p("dt_bias", s.H))
    y = naive("log_linear_attn").naive_log_linear_attn(C, B, value * dt.unsqueeze(-1), -dt * p.A_log(s.H).exp(),
                                                       level_scales(p, x, s.H, o))
    y = (y + p("D", s.H).view(-1, 1) * value).flatten(2) * F.silu(z)
    of_groups = y.unflatten(2, (o.groups, -1))
    normed = of_groups * torch.rsqrt(of_groups.square().mean(-1, keepdim=True) + 1e-5)
    return p.linear("out_proj", normed.flatten(2) * p.norm("norm", inner), s.D)


@yardstick("gla", *VARIANTS, {"gate_rank": 3, "gate_divisor": 2.0}, gate_rank=16, gate_divisor=16.0, **PUBLIC_GATE)
def gla(p, x, s, o):
    q, k, v = read_in(p, x, s, o, bare=identity)
    raw = p.linear("gk_b_proj", p.linear("gk_a_proj", x, o.gate_rank), q.shape[2] * q.shape[3], bias=True)
    g = F.logsigmoid(raw).view_as(k) / o.gate_divisor
    return read_out(p, x, naive("gla").naive_recurrent_gla(q, k, v, g)[0], s, o)


@yardstick("hgrn2", {}, {"lower_bound": 0.3, "value_heads": 4, **WIDTHS},
           {"short_conv": True, **WIDTHS},
           {"lower_bound": 0.9, **WIDTHS}, **dict(UNGATED, short_conv=False, lower_bound=0.0))
def hgrn2(p, x, s, o):
    """HGRN2 is gated linear attention with key 1 - f, f being the forget gate; fla's layer calls the same operator. Its
    convolutions have no activation."""
    q, raw, v = read_in(p, x, s, o, bare=identity, after_conv=identity)
    f = o.lower_bound + (1 - o.lower_bound) * raw.sigmoid()
    y = naive("gla").naive_recurrent_gla(F.silu(q), 1 - f, v, f.log())[0]
    return read_out(p, x, y, s, o, over_heads=True)


# --- Linear mixers with the delta rule --------------------------------------------------------------------------------


@yardstick("kda", *BOUNDED, {"lower_bound": -5.0, "full_rank_gates": True},
           {"lower_bound": -5.0, "full_rank_gates": True, "decay_rank": "low"}, {"decay_rank": "full"},
           **dict(DELTA, lower_bound=0.0))
def kda(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    y = naive("kda").naive_recurrent_kda(unit(q), unit(k), v, channel_decay(p, x, s, o), beta_of(p, x, s, o))[0]
    return read_out(p, x, y, s, o)


def of_writes(p, x, s, o):
    """q [B, T, HV, K], k and v [B, T * writes, HV, ..], beta [B, T * writes, HV]: the rows of a token's writes follow each
    other."""
    H, K, HV, V = widths(s, o)
    parts = []
    for name, heads, width, writes in (("q", H, K, 1), ("k", H, K, o.writes), ("v", HV, V, o.writes)):
        y = p.linear(f"{name}_proj", x, writes * heads * width)
        y = F.silu(convolved(p, f"{name}_conv", y) if o.short_conv else y)
        y = y.unflatten(2, (writes, heads, width)).flatten(1, 2)
        parts.append(y.repeat_interleave(HV // heads, 2))
    beta = p.linear("b_proj", x, o.writes * HV).sigmoid() * (2 if o.allow_neg_eigval else 1)
    return *parts, beta.unflatten(2, (o.writes, HV)).flatten(1, 2)


WRITES = tuple({**row, "writes": i + 1} for i, row in enumerate(FLIPPING))


@yardstick("gated_deltaproduct", *WRITES, **dict(DELTA, allow_neg_eigval=True, writes=2))
def gated_deltaproduct(p, x, s, o):
    q, k, v, beta = of_writes(p, x, s, o)
    recurrence = naive("gated_delta_product").naive_recurrent_gated_delta_product
    y = recurrence(unit(q), unit(k), v, head_decay(p, x, s, o), beta, q.shape[3] ** -0.5, num_householder=o.writes)[0]
    return read_out(p, x, y, s, o)


@yardstick("kda_product", *({**row, "writes": i + 1} for i, row in enumerate(BOUNDED)),
           **dict(DELTA, lower_bound=0.0, allow_neg_eigval=True, writes=2))
def kda_product(p, x, s, o):
    """fla has no such form; its naive KDA with a token per write, whose gates of the other writes are zero."""
    q, k, v, beta = of_writes(p, x, s, o)
    g, n = channel_decay(p, x, s, o), o.writes
    query = F.pad(unit(q).unsqueeze(2), (0, 0, 0, 0, n - 1, 0)).flatten(1, 2)
    decay = F.pad(g.unsqueeze(2), (0, 0, 0, 0, 0, n - 1)).flatten(1, 2)
    y = naive("kda").naive_recurrent_kda(query, unit(k), v, decay, beta)[0]
    return read_out(p, x, y.unflatten(1, (-1, n))[:, :, -1], s, o)


def preconditioned(p, x, q, k, v, g, s, o, recurrence, heads):
    """`heads` of the preconditioner: fla has one per key head for GDN and one per value head for KDA."""
    name, H = "preconditioner.", s.H
    decay = -p(name + "A_log", H, scale=0.5).exp() * F.softplus(p.linear(name + "a_proj", x, H) + p(name + "dt_bias", H))
    beta, center = p.linear(name + "b_proj", x, H).sigmoid(), p(name + "center", H, scale=0.5)
    each = heads // H
    decay, beta, center = decay.repeat_interleave(each, 2), beta.repeat_interleave(each, 2), center.repeat_interleave(each)
    return recurrence(q=q, k=k, v=v, g=g, g_atk=decay, beta_atk=beta, beta=beta_of(p, x, s, o), x=o.squash,
                      log_atk_scale=center)[0]


@yardstick("precond_kda", *BOUNDED, {"squash": 2.0}, **dict(DELTA, lower_bound=0.0, squash=1.5))
def precond_kda(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    recurrence = naive("precond_kda").naive_recurrent_precond_kda
    y = preconditioned(p, x, unit(q), unit(k), v, channel_decay(p, x, s, o), s, o, recurrence, v.shape[2])
    return read_out(p, x, y, s, o)


@yardstick("precond_gdn", *FLIPPING, {"squash": 1.1}, **dict(DELTA, squash=1.5))
def precond_gdn(p, x, s, o):
    """The naive form normalises queries and keys itself, without the eps of fla's kernels and of klab."""
    q, k, v = read_in(p, x, s, o)
    fla = naive("precond_gated_delta_rule")
    fla.F = types.SimpleNamespace(normalize=lambda x, **_: unit(x))
    y = preconditioned(p, x, q, k, v, head_decay(p, x, s, o), s, o, fla.naive_recurrent_precond_gated_delta_rule,
                       v.shape[2])
    return read_out(p, x, y, s, o)


@yardstick("gdn", *FLIPPING, **DELTA)
def gdn(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    recurrence = naive("gated_delta_rule").naive_recurrent_gated_delta_rule
    return read_out(p, x, recurrence(unit(q), unit(k), v, beta_of(p, x, s, o), head_decay(p, x, s, o))[0], s, o)


@yardstick("log_linear_gdn", *FLIPPING, **dict(DELTA, levels=15))
def log_linear_gdn(p, x, s, o):
    """fla's weights of the levels on the weights that fla's recurrence gives to unit vectors as values."""
    q, k, v = read_in(p, x, s, o)
    units = torch.eye(s.T, dtype=v.dtype).view(1, s.T, 1, s.T).expand(s.B, s.T, v.shape[2], s.T)
    recurrence = naive("gated_delta_rule").naive_recurrent_gated_delta_rule
    weights = recurrence(unit(q), unit(k), units, beta_of(p, x, s, o), head_decay(p, x, s, o))[0].transpose(1, 2)
    scales = level_scales(p, x, v.shape[2], o).permute(0, 2, 3, 1)
    levels = naive("log_linear_attn").construct_H_matrix(torch.zeros_like(scales[:, :, 0]), scales)
    return read_out(p, x, (weights * levels @ v.transpose(1, 2)).transpose(1, 2), s, o)


@yardstick("momentum_deltanet", *FLIPPING, **DELTA)
def momentum_deltanet(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    HV = v.shape[2]
    each = HV // s.H
    rate = p("Mu_log", HV, scale=0.5).exp() * F.softplus(p.linear("m_proj", x, HV) + p("mu_bias", HV))
    eta = (p.linear("e_proj", x, HV) / s.D ** 0.5).tanh() + 1
    angle = torch.arctan(eta * p("log_factor", HV, scale=0.5).exp())
    log_alpha = head_decay(p, x, s, o) + 2 * angle.cos().log()
    q = q - p("D_log", s.H, scale=0.5).exp().repeat_interleave(each).view(-1, 1) * k
    y = naive("momentum_delta_rule").recurrent_momentum_delta_rule_ref(
        unit(q), unit(k), v, log_alpha, (-rate).clamp_min(-2.0), log_alpha.exp().unsqueeze(-1) * unit(k),
        angle.sin() ** 2 * beta_of(p, x, s, o), eta)[0]
    return read_out(p, x, y, s, o)


@yardstick("gated_oja", *BOUNDED, **dict(DELTA, lower_bound=0.0))
def gated_oja(p, x, s, o):
    """fla has no naive form; its KDA with keys and values exchanged gives the state, from which the queries read."""
    q, k, v = read_in(p, x, s, o)
    V = v.shape[3]
    exchanged = types.SimpleNamespace(**{**vars(o), "key_dim": V})
    g, beta = channel_decay(p, x, s, exchanged), beta_of(p, x, s, o)
    recurrence, outputs = naive("kda").naive_recurrent_kda, []
    q, k, v = unit(q), unit(k), unit(v)
    for t in range(s.T):
        until = slice(t + 1)
        S = recurrence(v[:, until], v[:, until], k[:, until], g[:, until], beta[:, until], output_final_state=True)[1]
        outputs.append(torch.einsum("bhvk,bhk->bhv", S, q[:, t]) * q.shape[3] ** -0.5)
    return read_out(p, x, torch.stack(outputs, 1), s, o)


@yardstick("deltanet", *FLIPPING, **dict(DELTA, output_gate="none"))
def deltanet(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    recurrence = naive("delta_rule").delta_rule_recurrence
    return read_out(p, x, heads_first(recurrence, unit(q), unit(k), v, beta_of(p, x, s, o)), s, o)


@yardstick("longhorn", *VARIANTS, **UNGATED)
def longhorn(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    delta = p.linear("delta_proj", x, k.shape[2]).sigmoid()
    step = delta / (1 + delta * k.square().sum(-1))
    return read_out(p, x, heads_first(naive("delta_rule").delta_rule_recurrence, q, k, v, step), s, o)


@yardstick("comba", *FLIPPING, **DELTA)
def comba(p, x, s, o):
    """As in the paper. fla's layer instead L2-normalises q after its correction, and also the vector `erased`, which
    undoes the latter's scale."""
    q, k, v = read_in(p, x, s, o)
    HV = k.shape[2]
    erased = p("decay", HV).sigmoid().view(HV, 1) * unit(k)
    q = unit(q) - p("D", HV).view(HV, 1) * erased
    y = naive("comba").naive_recurrent_comba(q, unit(k), v, erased, beta_of(p, x, s, o), head_decay(p, x, s, o))[0]
    return read_out(p, x, y, s, o)


@yardstick("gdn2", *BOUNDED, **dict(DELTA, lower_bound=0.0))
def gdn2(p, x, s, o):
    q, k, v = read_in(p, x, s, o)
    erase = p.linear("b_proj", x, k[0, 0].numel()).sigmoid().view_as(k) * (2 if o.allow_neg_eigval else 1)
    write = p.linear("w_proj", x, v[0, 0].numel()).sigmoid().view_as(v)
    y = naive("gdn2").naive_recurrent_gdn2(unit(q), unit(k), v, channel_decay(p, x, s, o), erase, write)[0]
    return read_out(p, x, y, s, o)


# --- Linear mixers with two vectors -----------------------------------------------------------------------------------


@yardstick("dplr", *BOUNDED, **dict(DELTA, lower_bound=0.0))
def dplr(p, x, s, o):
    """Argument alpha of the naive form is the vector that reads the state, beta the vector that is written."""
    q, k, v = read_in(p, x, s, o)
    written, reads = (unit(p.linear(name, x, k[0, 0].numel()).view_as(k)) for name in ("write_proj", "read_proj"))
    y = heads_first(naive("generalized_delta_rule/dplr").dplr_recurrence, unit(q), unit(k), v, reads,
                    -beta_of(p, x, s, o).unsqueeze(-1) * written, channel_decay(p, x, s, o))
    return read_out(p, x, y, s, o)


@yardstick("rwkv7", {}, {"decay_rank": 3, "a_rank": 5, "gate_rank": 7}, {}, decay_rank=64, a_rank=64, gate_rank=128)
def rwkv7(p, x, s, o):
    """The naive form divides by sqrt(K), which RWKV-7 does not."""
    wide = s.H * s.K
    change = F.pad(x, (0, 0, 1, -1)) - x
    r_x, w_x, k_x, v_x, a_x, g_x = (x + change * p(f"x_{name}", s.D, scale=0.3, offset=0.5) for name in "rwkvag")

    def by_head(y):
        return y.unflatten(2, (s.H, s.K))

    r, k, v = (p.linear(f"{name}_proj", y, wide) for name, y in (("r", r_x), ("k", k_x), ("v", v_x)))
    raw = p.linear("w_b_proj", p.linear("w_a_proj", w_x, o.decay_rank).tanh(), wide, bias=True)
    w = -0.6065306597126334 * raw.sigmoid()  # e^-1/2
    a = p.linear("a_b_proj", p.linear("a_a_proj", a_x, o.a_rank), wide, bias=True).sigmoid()
    gate = p.linear("g_b_proj", p.linear("g_a_proj", g_x, o.gate_rank).sigmoid(), wide)
    kk = unit(by_head(k * p("k_k", wide, scale=0.3, offset=0.85)))
    k = k * (1 + (a - 1) * p("k_a", wide, scale=0.3, offset=1.0))
    r, k, v, w, a = map(by_head, (r, k, v, w, a))
    y = heads_first(naive("generalized_delta_rule/dplr").dplr_recurrence, r * s.K ** 0.5, k, v, -kk, kk * a, w)
    y = F.group_norm(y.flatten(0, 1).flatten(1), s.H, p.norm("norm_weight", wide), p("norm_bias", wide), s.K * 1e-5)
    bonus = (r * k * p("r_k", s.H, s.K)).sum(-1, keepdim=True) * v
    return p.linear("o_proj", (y.view(s.B, s.T, wide) + bonus.flatten(2)) * gate, s.D)

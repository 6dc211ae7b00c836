# SPDX-License-Identifier: Apache-2.0
"""Creates small Qwen3-Next and Qwen3.5 checkpoints with transformers; kimi.py runs the klab program on them."""

import contextlib
import sys

import torch

from mixers import public

LINEAR, FULL = "linear_attention", "full_attention"

# All widths are different, so that confusing two of them fails a test.
PLAIN = dict(vocab_size=101, hidden_size=40, intermediate_size=56, num_hidden_layers=4, num_attention_heads=6,
             num_key_value_heads=2, head_dim=12, linear_num_key_heads=3, linear_num_value_heads=6,
             linear_key_head_dim=10, linear_value_head_dim=14, linear_conv_kernel_dim=4, rms_norm_eps=1e-5,
             layer_types=[LINEAR, LINEAR, LINEAR, FULL], pad_token_id=0, bos_token_id=1, eos_token_id=2,
             rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5})
EXPERTS = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=18, shared_expert_intermediate_size=26)

# The family's modeling file, its model and its config, by name of a model type.
TYPES = {"next": ("qwen3_next", "Qwen3NextForCausalLM", "Qwen3NextConfig"),
         "dense": ("qwen3_5", "Qwen3_5ForCausalLM", "Qwen3_5TextConfig"),
         "moe": ("qwen3_5_moe", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextConfig")}


def rope(**changes):
    return {**PLAIN["rope_parameters"], **changes}


# (model type, changes to PLAIN) by name.
SHAPES = {
    "next": ("next", {}),
    "next_equal_heads": ("next", dict(linear_num_key_heads=4, linear_num_value_heads=4, mlp_only_layers=[0])),
    "next_not_normalised": ("next", dict(norm_topk_prob=False, num_experts_per_tok=1)),
    "next_dense": ("next", dict(num_experts=0, layer_types=[FULL, LINEAR, LINEAR, FULL])),
    "next_dense_first": ("next", dict(mlp_only_layers=[0, 1], tie_word_embeddings=True, linear_conv_kernel_dim=3)),
    "dense": ("dense", {}),
    "dense_tied": ("dense", dict(tie_word_embeddings=True, linear_num_value_heads=9)),
    "dense_rotated": ("dense", dict(rope_parameters=rope(partial_rotary_factor=1.0), head_dim=14)),
    "dense_mrope": ("dense", dict(rope_parameters=rope(mrope_section=[1, 1, 1], mrope_interleaved=True))),
    "dense_linear": ("dense", dict(layer_types=[LINEAR] * 4, rms_norm_eps=1e-3)),
    "dense_full": ("dense", dict(layer_types=[FULL] * 4, num_attention_heads=3, num_key_value_heads=3)),
    "moe": ("moe", {}),
    "moe_tied": ("moe", dict(tie_word_embeddings=True, num_experts_per_tok=8, linear_num_key_heads=1,
                             linear_num_value_heads=5)),
    "moe_one_head": ("moe", dict(num_attention_heads=1, num_key_value_heads=1, head_dim=32, num_experts_per_tok=1)),
}


def config_of(shape, **more):
    kind, changes = SHAPES[shape]
    fields = {**PLAIN, **({} if kind == "dense" else EXPERTS), **changes, **more}
    if kind == "moe":
        fields.pop("intermediate_size")
    return getattr(public(TYPES[kind][0]), TYPES[kind][2])(**fields)


@torch.no_grad()
def drawn_weights(model, seed):
    """Random weights, in place, in ranges where every tensor affects the logits: norms multiply by 1 + weight, except the
    one inside Gated DeltaNet."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(x, low, high):
        x.copy_(torch.empty(x.shape).uniform_(low, high, generator=generator))

    for name, x in model.named_parameters():
        if name.endswith("A_log"):
            uniform(x, -3, 2.5)
        elif name.endswith("dt_bias"):
            uniform(x, -6, 2)
        elif name.endswith("linear_attn.norm.weight"):
            uniform(x, 0.4, 1.8)
        elif x.dim() == 1:
            uniform(x, -0.6, 0.8)
        else:
            columns = x[0].numel() if "conv1d" in name else x.shape[-1]
            scale = 1 if "embed_tokens" in name else 0.7 / columns ** 0.5  # larger ones amplify rounding
            x.copy_(torch.randn(x.shape, generator=generator) * scale)
    return model


def made(shape, seed=3, **changes):
    """A model of this shape with random weights in float32."""
    model = getattr(public(TYPES[SHAPES[shape][0]][0]), TYPES[SHAPES[shape][0]][1])(config_of(shape, **changes))
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return drawn_weights(model, seed).float().eval()


@contextlib.contextmanager
def by_token(model):
    """Makes transformers use its token-by-token recurrence for prompts too, which loses no precision where the decay is
    strong."""
    modeling = sys.modules[type(model).__module__]
    chunked = modeling.torch_chunk_gated_delta_rule
    modeling.torch_chunk_gated_delta_rule = modeling.torch_recurrent_gated_delta_rule
    try:
        yield
    finally:
        modeling.torch_chunk_gated_delta_rule = chunked


@torch.no_grad()
def expected_logits(model, tokens):
    with by_token(model):
        return model(tokens, use_cache=False).logits.float()


@torch.no_grad()
def greedy(model, prompt, new):
    """transformers' answer, and the smallest gap between the two largest logits over its tokens."""
    tokens, gap = prompt.clone(), float("inf")
    for _ in range(new):
        best = expected_logits(model, tokens[None])[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        tokens = torch.cat([tokens, best.indices[:1]])
    return tokens[len(prompt):].tolist(), gap

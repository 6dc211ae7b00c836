# SPDX-License-Identifier: Apache-2.0
"""Runs with Gated DeltaNet and gated attention, exported by klab, loaded by transformers and by klab."""

import json

import pytest
import torch

import kimi
import qwen
from kimi import slow, some
from mixers import public
from test_kimi_export import SIZES, exported, trained

FLOAT32 = 1e-4  # tolerance relative to the RMS of a position's logits

MODEL = [*SIZES, "--model.layers", 3, "--model.pattern", "gdn,gated_attention,gdn", "--model.gdn.output_gate", "swish",
         "--model.gdn.full_rank_gates", "true"]
HEADS = ["--model.gdn.value_heads", 4, "--model.gdn.value_dim", 10, "--model.gdn.conv_size", 3,
         "--model.gated_attention.heads", 6, "--model.gated_attention.kv_heads", 2, "--model.gated_attention.head_dim", 16,
         "--model.gated_attention.rope_base", 500, "--model.gated_attention.rope_fraction", 0.5, "--model.norm_eps", 1e-4]
EXPERTS = ["--model.moe.experts", 6, "--model.moe.experts_per_token", 2, "--model.moe.expert_width", 20,
           "--model.moe.shared_width", 28, "--model.moe.router", "softmax", "--model.moe.shared_gate", "true",
           "--model.moe.scaling", 1]

# Options, and the model type that is written.
RUNS = {"dense": ([*MODEL, *HEADS], "qwen3_5_text"),
        "tied": ([*MODEL, "--model.tie_embeddings", "true"], "qwen3_5_text"),
        "experts": ([*MODEL, *HEADS, *EXPERTS, "--model.first_dense", 0], "qwen3_5_moe_text"),
        "dense_first": ([*MODEL, *HEADS, *EXPERTS, "--model.first_dense", 1, "--model.moe.renormalise", "false"],
                        "qwen3_next")}
CLASSES = {"qwen3_5_text": ("qwen3_5", "Qwen3_5ForCausalLM"), "qwen3_next": ("qwen3_next", "Qwen3NextForCausalLM"),
           "qwen3_5_moe_text": ("qwen3_5_moe", "Qwen3_5MoeForCausalLM")}


def opened(folder):
    """The folder loaded by transformers; asserts that no weights are missing, unexpected or mismatched."""
    module, name = CLASSES[json.loads((folder / "config.json").read_text())["model_type"]]
    model, found = getattr(public(module), name).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(found.values()), found
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model.eval()


@pytest.mark.parametrize("name", ["dense", "dense_first", slow("tied"), "experts"])
def test_there_and_back(name, tmp_path):
    """transformers and klab compute the same logits from an export, klab also after transformers has saved it."""
    options, kind = RUNS[name]
    folder = exported(trained(tmp_path / "run", *options), tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    model = opened(folder)
    tokens = torch.randint(0, model.config.vocab_size, (2, 40))
    ours = kimi.logits(folder, tokens)[0]
    assert kimi.worst_error(qwen.expected_logits(model, tokens), ours) < FLOAT32
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(ours, kimi.logits(tmp_path / "again", tokens)[0])


@pytest.mark.parametrize("shape", some(["next", "dense_tied", "moe"], 2))
def test_from_a_public_config(shape, tmp_path):
    """A run that takes its model from a public config.json."""
    qwen.config_of(shape).save_pretrained(tmp_path / "public")
    run = trained(tmp_path / "run", "--model.config", tmp_path / "public" / "config.json", steps=2)
    opened(exported(run, tmp_path / "model"))


UNSAYABLE = [("model.gdn.output_gate", "sigmoid"), ("model.gdn.full_rank_gates", "false"),
             ("model.gdn.short_conv", "false"), ("model.gated_attention.window", "4"),
             ("model.gated_attention.qk_norm", "false"), ("model.gated_attention.rope_fraction", "0"),
             ("model.moe.router", "sigmoid"), ("model.moe.scaling", "2"), ("model.activation", "gelu"),
             ("model.moe.groups", "2"), ("model.sandwich_norm", "true")]


@pytest.mark.parametrize("key, value", some(UNSAYABLE, 4))
def test_what_the_layout_cannot_say(key, value, tmp_path):
    run = trained(tmp_path / "run", *kimi.with_option([*MODEL, *EXPERTS], key, value), steps=1)
    done = kimi.klab("export", run, "--out", tmp_path / "model")
    assert done.returncode == 2 and key in done.stderr, done.stderr
    assert not (tmp_path / "model").exists()

# SPDX-License-Identifier: Apache-2.0
"""Kimi K3's text model: klab against a small model in PyTorch (kimi_k3.py), as transformers has none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import kimi
import kimi_k3
from kimi import slow, some
from test_kimi_export import SIZES, exported, trained

FLOAT32 = 1e-4  # tolerance relative to the RMS of a position's logits

MODEL = [*SIZES, "--model.layers", 4, "--model.pattern", "kda,gated_mla", "--model.kda.full_rank_gates", "true",
         "--model.kda.decay_rank", "low", "--model.kda.lower_bound", -5]
PARTS = ["--model.attention_residuals", 2, "--model.activation", "situ", "--model.situ_beta", 3]
EXPERTS = ["--model.moe.experts", 4, "--model.moe.experts_per_token", 2, "--model.moe.expert_width", 20,
           "--model.moe.latent_width", 24]
RUNS = {"everything": [*MODEL, *PARTS, *EXPERTS],
        "dense": [*MODEL, *PARTS],
        "experts": [*MODEL, *EXPERTS, "--model.moe.latent_norm", "false", "--model.moe.shared_experts", 2]}


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", kimi_k3.SHAPES)
def test_every_shape(modeling, shape, tmp_path):
    model = kimi_k3.made(modeling, shape)
    folder, tokens = model.save(tmp_path / "model"), kimi_k3.random_tokens(model, 2, 60)
    error = kimi.worst_error(model(tokens), kimi.logits(folder, tokens)[0])
    assert error < FLOAT32, f"{shape}: {error:.3g} of the logits' size"


@pytest.mark.parametrize("shape", ["plain", slow("block_of_one"), slow("no_residuals")])
def test_greedy(modeling, shape, tmp_path):
    model = kimi_k3.made(modeling, shape)
    folder = model.save(tmp_path / "model")
    prompts = [kimi_k3.random_tokens(model, length, seed=length) for length in (1, 17, 6)]
    expected, gaps = zip(*(kimi_k3.greedy(model, prompt, 10) for prompt in prompts))
    assert min(gaps) > 1e-3, f"choose another seed: two tokens are only {min(gaps):.2g} apart"
    assert kimi.generate(folder, prompts, 10, "--ignore-eos") == list(expected)


def test_inside_of_the_multimodal_model(modeling, tmp_path):
    """Prefixed tensors, a vision tower, text_config; stop tokens of the whole model count."""
    model = kimi_k3.made(modeling)
    alone, folder = model.save(tmp_path / "alone"), model.save(tmp_path / "model", prefix="language_model.")
    whole = {"architectures": ["KimiK3ForConditionalGeneration"], "model_type": "kimi_k3", "text_config": model.fields,
             "vision_config": {"patch_size": 14}, "media_placeholder_token_id": 99, "tie_word_embeddings": False,
             "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(whole))
    extra = {"vision_tower.patch_embed.weight": torch.ones(3, 2), "mm_projector.linear.weight": torch.ones(2, 2)}
    save_file(load_file(folder / kimi.WHOLE) | extra, folder / kimi.WHOLE)
    tokens = kimi_k3.random_tokens(model, 1, 30)
    assert torch.equal(kimi.logits(alone, tokens)[0], kimi.logits(folder, tokens)[0])


def test_other_forms(modeling, tmp_path):
    """A_log without padding, and without the unused attention residual of the first layer."""
    model = kimi_k3.made(modeling)
    folder, tokens = model.save(tmp_path / "model"), kimi_k3.random_tokens(model, 1, 30)

    def change(tensors):
        tensors = {name: x for name, x in tensors.items() if ".layers.0.self_attention_res" not in name}
        return {name: x[:4].clone() if name.endswith("A_log") else x for name, x in tensors.items()}

    other = kimi.rewritten(folder, tmp_path / "other", change)
    assert torch.equal(kimi.logits(folder, tokens)[0], kimi.logits(other, tokens)[0])


# --- Refused ----------------------------------------------------------------------------------------------------------

REFUSED = [
    ({"attn_res_block_size": 0}, "attn_res_block_size"), ({"attn_res_block_size": "12"}, "attn_res_block_size"),
    ({"routed_expert_hidden_size": -1}, "routed_expert_hidden_size"), ({"latent_moe_use_norm": ...}, "latent_moe_use_norm"),
    ({"latent_moe_use_norm": 1}, "latent_moe_use_norm"), ({"hidden_act": "gelu"}, "hidden_act"),
    ({"activation_situ_beta": ...}, "activation_situ_beta"), ({"activation_situ_beta": 0}, "activation_situ_beta"),
    ({"activation_situ_linear_beta": None}, "activation_situ_linear_beta"),
    ({"mla_use_output_gate": "yes"}, "mla_use_output_gate"), ({"mla_use_nope": False}, "mla_use_nope"),
    ({"linear.gate_lower_bound": -6}, "gate_lower_bound"), ({"linear.gate_lower_bound": "low"}, "gate_lower_bound"),
    ({"linear.use_full_rank_gate": 1}, "use_full_rank_gate"), ({"linear.kda_layers": [1, 2, 3]}, "kda_layers"),
    ({"linear.full_attn_layers": [4, 5]}, "full_attn_layers"), ({"linear.lower_bound": -5}, "lower_bound"),
    ({"topk_method": "greedy"}, "topk_method"), ({"attn_res_size": 2}, "attn_res_size"),
    ({"quantization_config": {"format": "mxfp4-pack-quantized"}}, "quantization_config"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings"), ({"first_k_dense_replace": ...}, "first_k_dense_replace"),
]


@pytest.mark.parametrize("changes, field", some(REFUSED, 4))
def test_refused_by_name(changes, field, tmp_path):
    fields = kimi_k3.fields_of()
    for name, value in changes.items():
        place = fields["linear_attn_config"] if name.startswith("linear.") else fields
        name = name.removeprefix("linear.")
        if value is ...:
            del place[name]
        else:
            place[name] = value
    for whole in (fields, {"model_type": "kimi_k3", "text_config": fields}):
        (tmp_path / "config.json").write_text(json.dumps(whole))
        done = kimi.klab("model", tmp_path / "config.json")
        assert done.returncode == 2 and field in done.stderr, done.stderr


# --- Export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["everything", "dense", slow("experts")])
def test_there_and_back(modeling, name, tmp_path):
    """The PyTorch model and klab compute the same logits from an export, klab also after the model has saved it."""
    folder = exported(trained(tmp_path / "run", *RUNS[name]), tmp_path / "model")
    model = kimi_k3.opened(modeling, folder)
    tokens = torch.randint(0, model.fields["vocab_size"], (2, 40))
    ours = kimi.logits(folder, tokens)[0]
    assert kimi.worst_error(model(tokens), ours) < FLOAT32
    assert torch.equal(ours, kimi.logits(model.save(tmp_path / "again"), tokens)[0])


UNSAYABLE = [("model.kda.decay_rank", "full"), ("model.gated_mla.norm_eps", "1e-5"), ("model.activation", "gelu"),
             ("model.tie_embeddings", "true"), ("model.value_residual", "true"), ("model.moe.router", "softmax")]


@pytest.mark.parametrize("key, value", some(UNSAYABLE, 3))
def test_what_the_layout_cannot_say(key, value, tmp_path):
    run = trained(tmp_path / "run", *kimi.with_option(RUNS["everything"], key, value), steps=1)
    done = kimi.klab("export", run, "--out", tmp_path / "model")
    assert done.returncode == 2 and key in done.stderr, done.stderr
    assert not (tmp_path / "model").exists()

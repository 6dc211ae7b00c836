# SPDX-License-Identifier: Apache-2.0
"""config.json of Qwen3-Next and Qwen3.5 as published and as written by transformers 5; invalid fields are rejected with
the field's name."""

import json

import pytest
import torch

import kimi
import qwen
from kimi import some
from qwen import FULL, LINEAR


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint written by transformers, its config fields, and klab's logits."""

    class Made:
        model = qwen.made("next_dense_first")
        folder = tmp_path_factory.mktemp("made") / "model"
        model.save_pretrained(folder)
        fields = json.loads((folder / "config.json").read_text())
        tokens = kimi.random_tokens(model, 1, 20)
        logits = kimi.logits(folder, tokens)[0]

    return Made


def with_config(made, folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))
    if not (folder / kimi.WHOLE).exists():
        (folder / kimi.WHOLE).hardlink_to(made.folder / kimi.WHOLE)
    return folder


def changed(fields, changes):
    """A copy of `fields` with other values; "rope_parameters.NAME" is a nested field, the value `...` removes a field."""
    fields = json.loads(json.dumps(fields))
    for name, value in changes.items():
        place, name = (fields["rope_parameters"], name.split(".")[1]) if "." in name else (fields, name)
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return fields


OTHER_WAYS = {
    "interval": {"layer_types": ..., "full_attention_interval": 4},
    "older rope": {"rope_parameters": ..., "rope_scaling": None, "rope_theta": 5000.0, "partial_rotary_factor": 0.5},
    "both ropes": {"rope_theta": 5000.0, "partial_rotary_factor": 0.5},
    "axes": {"rope_parameters.mrope_section": [2, 2, 2], "rope_parameters.mrope_interleaved": True},
    "ignored": {"torch_dtype": "bfloat16", "mtp_num_hidden_layers": 1, "mamba_ssm_dtype": "float32", "use_cache": False},
    "stated": {"attn_output_gate": True, "use_sliding_window": False, "decoder_sparse_step": 1},
}


@pytest.mark.parametrize("name", some(OTHER_WAYS, 2))
def test_other_ways_to_say_it(made, name, tmp_path):
    folder = with_config(made, tmp_path / "model", changed(made.fields, OTHER_WAYS[name]))
    assert torch.equal(made.logits, kimi.logits(folder, made.tokens)[0])


REFUSED = [
    ({"hidden_size": ...}, "hidden_size"), ({"hidden_size": "40"}, "hidden_size"), ({"hiden_size": 40}, "hiden_size"),
    ({"vocab_size": -1}, "vocab_size"), ({"num_hidden_layers": 1e99}, "num_hidden_layers"),
    ({"layer_types": [LINEAR] * 3}, "layer_types"), ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
    ({"layer_types": ...}, "layer_types"), ({"full_attention_interval": 3}, "full_attention_interval"),
    ({"layer_types": {"0": FULL}}, "layer_types"), ({"head_dim": ...}, "head_dim"),
    ({"linear_num_value_heads": 4}, "linear_num_value_heads"), ({"linear_key_head_dim": 0}, "linear_key_head_dim"),
    ({"num_key_value_heads": 4}, "num_key_value_heads"), ({"attention_bias": True}, "attention_bias"),
    ({"attn_output_gate": False}, "attn_output_gate"), ({"rms_norm_eps": 0}, "rms_norm_eps"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps"), ({"rope_parameters": [1]}, "rope_parameters"),
    ({"rope_parameters.rope_type": "yarn"}, "rope_type"), ({"rope_parameters.rope_theta": ...}, "rope_theta"),
    ({"rope_theta": 1.0}, "rope_theta"), ({"rope_parameters.partial_rotary_factor": 0.01}, "partial_rotary_factor"),
    ({"rope_parameters.partial_rotary_factor": 1e300}, "partial_rotary_factor"),
    ({"rope_parameters.factor": 8}, "factor"), ({"mlp_only_layers": [3]}, "mlp_only_layers"),
    ({"mlp_only_layers": [-1]}, "mlp_only_layers"), ({"mlp_only_layers": "all"}, "mlp_only_layers"),
    ({"decoder_sparse_step": 2, "mlp_only_layers": []}, "decoder_sparse_step"), ({"num_experts": ...}, "num_experts"),
    ({"num_experts_per_tok": 9}, "num_experts_per_tok"), ({"num_experts_per_tok": 0}, "num_experts_per_tok"),
    ({"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size"),
    ({"norm_topk_prob": "yes"}, "norm_topk_prob"), ({"hidden_act": "gelu"}, "hidden_act"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings"), ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"architectures": ["LlamaForCausalLM"]}, "architectures"), ({"model_type": "qwen2"}, "model_type"),
    ({"model_type": 3}, "model_type"), ({"eos_token_id": "end"}, "eos_token_id"),
    ({"model_type": "qwen3_5_text"}, "num_experts"), ({"model_type": "qwen3_5_moe_text"}, "mlp_only_layers"),
]


@pytest.mark.parametrize("changes, field", some(REFUSED, 6))
def test_refused_by_name(made, changes, field, tmp_path):
    folder = with_config(made, tmp_path / "model", changed(made.fields, changes))
    done = kimi.klab("logits", "--model", folder, "--tokens", "5,6", "--out", tmp_path / "out")
    assert done.returncode == 2 and field in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_tensors_must_fit(made, tmp_path):
    """A config for other widths is refused with a tensor's name."""
    folder = with_config(made, tmp_path / "model", changed(made.fields, {"linear_value_head_dim": 15}))
    done = kimi.klab("logits", "--model", folder, "--tokens", "5,6", "--out", tmp_path / "out")
    assert done.returncode == 1 and "linear_attn" in done.stderr, done.stderr

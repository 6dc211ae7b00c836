# SPDX-License-Identifier: Apache-2.0
"""config.json as published and as written by transformers 5; invalid fields are rejected with the field's name."""

import json
import time

import pytest
import torch

import kimi
from kimi import FULL, LINEAR, some

LIMIT = 10  # seconds until a rejection on a busy machine; usually 0.2


@pytest.fixture(scope="module")
def made(modeling, tmp_path_factory):
    """A checkpoint written by transformers, its config fields, and klab's logits."""

    class Made:
        model = kimi.made(modeling, "q_lora_rank")
        folder = kimi.save(model, tmp_path_factory.mktemp("made") / "model")
        fields = json.loads((folder / "config.json").read_text())
        tokens = kimi.random_tokens(model, 1, 20)
        logits = kimi.logits(folder, tokens)[0]

    return Made


def published(config):
    """The same config with the field names and layer lists of the published files."""
    layers = range(1, config.num_hidden_layers + 1)
    return {
        "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "dtype": "float32",
        "auto_map": {"AutoConfig": "configuration_kimi.KimiLinearConfig"}, "transformers_version": "4.57.0",
        "hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size, "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads, "head_dim": 14, "q_lora_rank": config.q_lora_rank,
        "kv_lora_rank": config.kv_lora_rank, "qk_nope_head_dim": config.qk_nope_head_dim,
        "qk_rope_head_dim": config.qk_rope_head_dim, "v_head_dim": config.v_head_dim, "mla_use_nope": True,
        "rope_theta": 10000.0, "rope_scaling": None, "intermediate_size": config.intermediate_size,
        "moe_intermediate_size": config.moe_intermediate_size, "num_experts": config.num_local_experts,
        "num_experts_per_token": config.num_experts_per_tok, "num_shared_experts": config.n_shared_experts,
        "first_k_dense_replace": config.mlp_layer_types.count("dense"), "moe_layer_freq": 1,
        "moe_router_activation_func": "sigmoid", "moe_renormalize": config.norm_topk_prob,
        "routed_scaling_factor": config.routed_scaling_factor, "use_grouped_topk": True,
        "num_expert_group": config.n_group, "topk_group": config.topk_group, "num_nextn_predict_layers": 0,
        "rms_norm_eps": config.rms_norm_eps, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "model_max_length": 1000,
        "initializer_range": 0.02, "use_cache": True,
        "linear_attn_config": {
            "head_dim": config.linear_head_dim, "num_heads": config.linear_num_heads,
            "short_conv_kernel_size": config.linear_conv_kernel_dim,
            "full_attn_layers": [i for i in layers if config.layer_types[i - 1] == FULL],
            "kda_layers": [i for i in layers if config.layer_types[i - 1] == LINEAR]},
    }


def with_config(made, folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))
    if not (folder / kimi.WHOLE).exists():
        (folder / kimi.WHOLE).hardlink_to(made.folder / kimi.WHOLE)
    return folder


def changed(fields, changes):
    """A copy of `fields` with other values; "linear_attn_config.NAME" is a nested field, the value `...` removes a field."""
    fields = json.loads(json.dumps(fields))
    for name, value in changes.items():
        place, name = (fields["linear_attn_config"], name.split(".")[1]) if "." in name else (fields, name)
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return fields


# --- Accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", some(["groups", "q_lora_rank", "shared", "dense", "conv3"], 3))
def test_both_styles(modeling, shape, tmp_path):
    model = kimi.made(modeling, shape)
    folder, tokens = kimi.save(model, tmp_path / "model"), kimi.random_tokens(model, 1, 30)
    ours = kimi.logits(folder, tokens)[0]
    theirs = json.loads((folder / "config.json").read_text())
    assert "layer_types" in theirs and "linear_attn_config" not in theirs
    with_config(None, folder, published(model.config))
    assert torch.equal(ours, kimi.logits(folder, tokens)[0]), shape
    reopened = modeling.KimiLinearForCausalLM.from_pretrained(folder)
    assert kimi.worst_error(kimi.expected_logits(reopened, tokens), ours) < 5e-5


OTHER_WAYS = [
    {"num_local_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 1, "n_group": 1, "norm_topk_prob": True},
    {"layer_types": [LINEAR, LINEAR, FULL, LINEAR], "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
     "linear_head_dim": 20, "linear_num_heads": 3, "linear_conv_kernel_dim": 4, "qk_head_dim": 20},
    {"num_key_value_heads": ..., "num_expert_group": ..., "topk_group": ..., "eos_token_id": ..., "bos_token_id": ...},
    {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None, "num_key_value_heads": None},
    {"first_k_dense_replace": ..., "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
    {"linear_attn_config.head_dim": ..., "linear_head_dim": 20},
    {"rope_theta": 1, "head_dim": 99, "use_cache": False, "torch_dtype": "bfloat16", "initializer_range": 7}]


WAYS = ["two names", "two lists", "defaults", "nulls", "mlp_layer_types", "linear_head_dim", "ignored"]


@pytest.mark.parametrize("changes", some(OTHER_WAYS, 3), ids=WAYS)
def test_other_ways_to_say_it(made, changes, tmp_path):
    folder = with_config(made, tmp_path / "model", changed(published(made.model.config), changes))
    assert torch.equal(made.logits, kimi.logits(folder, made.tokens)[0])


def test_every_layer_dense_without_words_about_experts(modeling, tmp_path):
    """first_k_dense_replace exceeds the number of layers, and the fields for experts are absent."""
    model = kimi.made(modeling, "dense")
    folder, tokens = kimi.save(model, tmp_path / "model"), kimi.random_tokens(model, 1, 20)
    ours = kimi.logits(folder, tokens)[0]
    without = {name: ... for name in ("num_experts", "num_experts_per_token", "num_shared_experts", "moe_renormalize",
                                      "routed_scaling_factor", "moe_intermediate_size", "topk_group")}
    with_config(None, folder, changed(published(model.config), {**without, "first_k_dense_replace": 100}))
    assert torch.equal(ours, kimi.logits(folder, tokens)[0])


# --- Refused ----------------------------------------------------------------------------------------------------------


def refused(made, tmp_path, text, *complaints):
    """Asserts that `klab model`, which reads only config.json, rejects it with exit status 2 and these messages."""
    begin = time.monotonic()
    done = kimi.klab("model", with_config(made, tmp_path / "model", text))
    assert done.returncode == 2, (done.stdout + done.stderr)[:2000]
    assert time.monotonic() - begin < LIMIT
    assert "config.json" in done.stderr and len(done.stderr) < 2000, done.stderr
    for complaint in complaints:
        assert complaint in done.stderr, done.stderr


CONTRADICTIONS = [
    ({"num_local_experts": 9}, "num_experts", "num_local_experts"),
    ({"num_experts_per_tok": 2}, "num_experts_per_token", "num_experts_per_tok"),
    ({"n_shared_experts": 2}, "num_shared_experts", "n_shared_experts"),
    ({"n_group": 2}, "num_expert_group", "n_group"),
    ({"norm_topk_prob": False}, "moe_renormalize", "norm_topk_prob"),
    ({"layer_types": [LINEAR, FULL, FULL, LINEAR]}, "layer_types", "linear_attn_config"),
    ({"linear_attn_config.kda_layers": [1, 2, 3, 4]}, "layer 3", "full_attn_layers"),
    ({"linear_attn_config.kda_layers": [1, 2]}, "kda_layers", "layer 4"),
    ({"linear_attn_config.kda_layers": [1, 2, 2, 4]}, "kda_layers", "layer 2"),
    ({"linear_attn_config.kda_layers": [0, 1, 2, 4]}, "kda_layers", "0"),
    ({"linear_attn_config.full_attn_layers": [3, 5]}, "full_attn_layers", "5"),
    ({"linear_attn_config.full_attn_layers": [3.0]}, "full_attn_layers", "3.0"),
    ({"mlp_layer_types": ["dense", "dense", "sparse", "sparse"]}, "mlp_layer_types", "first_k_dense_replace"),
    ({"mlp_layer_types": ["sparse", "dense", "sparse", "sparse"]}, "mlp_layer_types"),
    ({"mlp_layer_types": ["dense", "sparse"]}, "mlp_layer_types"),
    ({"layer_types": [LINEAR, LINEAR, "sliding_attention", LINEAR]}, "layer_types", "sliding_attention"),
    ({"linear_head_dim": 21}, "linear_head_dim", "head_dim"),
    ({"linear_num_heads": 4}, "linear_num_heads", "num_heads"),
    ({"linear_conv_kernel_dim": 3}, "linear_conv_kernel_dim", "short_conv_kernel_size"),
    ({"qk_head_dim": 21}, "qk_head_dim"),
    ({"num_hidden_layers": 5}, "layer 5"),
    ({"num_experts_per_token": 9}, "num_experts_per_token"),
    ({"num_expert_group": 3}, "num_expert_group"),
    ({"topk_group": 2}, "topk_group"),
]

OTHER_MODELS = [
    ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    ({"mla_use_nope": False}, "mla_use_nope"), ({"tie_word_embeddings": True}, "tie_word_embeddings"),
    ({"attention_bias": True}, "attention_bias"), ({"hidden_act": "gelu"}, "hidden_act"),
    ({"model_type": "deepseek_v3"}, "model_type"), ({"num_key_value_heads": 1}, "num_key_value_heads"),
    ({"moe_router_activation_func": "softmax"}, "moe_router_activation_func"),
    ({"moe_layer_freq": 2}, "moe_layer_freq"),
    ({"sliding_window": 5}, "sliding_window"), ({"kda_layers": [1]}, "kda_layers"),
    ({"linear_attn_config.gate_lower_bound": -6}, "gate_lower_bound"),
    ({"linear_attn_config.num_v_heads": 6}, "num_v_heads"), ({"hidden_sise": 3}, "hidden_size"),
]

MISSING = ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim",
           "qk_rope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size", "num_experts",
           "num_experts_per_token", "first_k_dense_replace", "routed_scaling_factor", "rms_norm_eps",
           "linear_attn_config", "linear_attn_config.head_dim", "linear_attn_config.num_heads",
           "linear_attn_config.kda_layers",
           "linear_attn_config.short_conv_kernel_size", "linear_attn_config.full_attn_layers"]

TYPES = [("hidden_size", value) for value in ("72", -72, 72.5, True, 10**30, 2**63, 0, None, [72], {"a": 1}, 1e300)]
TYPES += [("num_hidden_layers", 10**9), ("num_experts", 10**12), ("num_experts", "8"), ("rms_norm_eps", "1e-5"),
          ("rms_norm_eps", True), ("rms_norm_eps", -1e-5), ("rms_norm_eps", 0), ("routed_scaling_factor", [1]),
          ("moe_renormalize", 1), ("moe_renormalize", "true"), ("first_k_dense_replace", -1), ("v_head_dim", 2.5),
          ("first_k_dense_replace", "1"), ("q_lora_rank", 0), ("q_lora_rank", "22"), ("eos_token_id", "2"),
          ("eos_token_id", 2.5), ("eos_token_id", [2, "x"]), ("layer_types", LINEAR), ("mlp_layer_types", 3),
          ("linear_attn_config", [1]), ("linear_attn_config", "x"), ("linear_attn_config.kda_layers", 3),
          ("linear_attn_config.kda_layers", ["1"]), ("linear_attn_config.num_heads", "3"),
          ("linear_attn_config.head_dim", -1), ("linear_attn_config.short_conv_kernel_size", 0),
          ("vocab_size", -1), ("mla_use_nope", "yes"), ("tie_word_embeddings", 1), ("model_type", 5)]


REFUSED = [(changes, complaints) for changes, *complaints in CONTRADICTIONS + OTHER_MODELS]


@pytest.mark.parametrize("changes, complaints", some(REFUSED, 5), ids=str)
def test_contradictions_and_other_models(made, changes, complaints, tmp_path):
    refused(made, tmp_path, changed(published(made.model.config), changes), *complaints)


@pytest.mark.parametrize("name", some(MISSING, 6))
def test_missing_fields(made, name, tmp_path):
    refused(made, tmp_path, changed(published(made.model.config), {name: ...}), name.split(".")[-1])


@pytest.mark.parametrize("name, value", some(TYPES, 8), ids=str)
def test_wrong_types_and_ranges(made, name, value, tmp_path):
    refused(made, tmp_path, changed(published(made.model.config), {name: value}), name.split(".")[-1])


@pytest.mark.parametrize("name, value", some([
    ("num_local_experts", 10**6), ("n_group", "1"), ("linear_head_dim", 0), ("layer_types", [LINEAR]),
    ("layer_types", ...), ("num_experts_per_tok", -1), ("linear_conv_kernel_dim", True)], 4), ids=str)
def test_names_of_transformers(made, name, value, tmp_path):
    """The message uses the field names of transformers if the file does."""
    refused(made, tmp_path, changed(made.fields, {name: value}), name)


NO_JSON = ["", "{", "[]", "5", "{} {}", '{"hidden_size": NaN}', '{"hidden_size": 1e999}', "\x00\x01",
           '{"a": "\\ud800"}', "[" * 100_000, '{"hidden_size": ' + "[" * 100_000]


@pytest.mark.parametrize("text", some(NO_JSON, 5), ids=range(len(NO_JSON)))
def test_what_is_no_json(made, text, tmp_path):
    refused(made, tmp_path, text)


@pytest.mark.parametrize("name", some(["hidden_size", "dtype", "eos_token_id", "surprise", "layer_types"], 4))
def test_deep_values(made, name, tmp_path):
    """Valid JSON nested so deeply that a recursive parser would overflow the stack: refused, also in fields that are not
    read."""
    text = json.dumps(changed(published(made.model.config), {name: "deep"}))
    depth = 200_000
    done = kimi.klab("model", with_config(made, tmp_path / "model", text.replace('"deep"', "[" * depth + "]" * depth)))
    assert done.returncode == 2 and "nested" in done.stderr and len(done.stderr) < 2000


def test_a_field_twice(made, tmp_path):
    """A duplicate field is rejected, because JSON parsers differ in which one they use."""
    text = json.dumps(published(made.model.config))
    refused(made, tmp_path, text[:-1] + ', "hidden_size": 73}', "hidden_size")


def test_logits_refuses_it_too(made, tmp_path):
    """`klab logits` rejects it before reading weights and leaves no file; the same for a bad generation_config.json."""
    folder = with_config(made, tmp_path / "model", changed(made.fields, {"vocab_size": "101"}))
    out = tmp_path / "out"
    done = kimi.klab("logits", "--model", folder, "--tokens", "5", "--out", out)
    assert done.returncode == 2 and "vocab_size" in done.stderr and not out.exists()
    with_config(made, folder, made.fields)
    for text in ('{"eos_token_id": "x"}', "["):
        (folder / "generation_config.json").write_text(text)
        done = kimi.klab("logits", "--model", folder, "--tokens", "5", "--out", out)
        assert done.returncode == 2 and "generation_config.json" in done.stderr and not out.exists(), text


HUGE = 2**24
WIDE = [{"hidden_size": HUGE}, {"linear_attn_config.num_heads": HUGE}, {"vocab_size": HUGE, "intermediate_size": HUGE},
        {"num_experts": 10_000}, {"q_lora_rank": HUGE, "num_attention_heads": HUGE, "num_key_value_heads": HUGE}]


@pytest.mark.parametrize("changes", some(WIDE, 3), ids=str)
def test_wide_models_that_the_weights_are_not(made, changes, tmp_path):
    """Sizes in range that do not match the weights: rejected before memory for such a model is allocated."""
    folder = with_config(made, tmp_path / "model", changed(published(made.model.config), changes))
    begin = time.monotonic()
    done = kimi.klab("logits", "--model", folder, "--tokens", "5", "--out", tmp_path / "out")
    assert done.returncode in (1, 2) and time.monotonic() - begin < LIMIT and not (tmp_path / "out").exists()
    assert "tensor '" in done.stderr or "model" in done.stderr
    assert "alloc" not in done.stderr and len(done.stderr) < 2000, done.stderr

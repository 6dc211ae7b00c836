# SPDX-License-Identifier: Apache-2.0
"""Logits and greedy answers of klab against transformers' Qwen3-Next and Qwen3.5, on small random checkpoints."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import kimi
import qwen
from kimi import slow, some

FLOAT32 = 1e-4  # limit of kimi.worst_error() against transformers


def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    return folder


@pytest.mark.parametrize("shape", qwen.SHAPES)
def test_every_shape(shape, tmp_path):
    model = qwen.made(shape)
    folder, tokens = saved(model, tmp_path / "model"), kimi.random_tokens(model, 2, 70)
    error = kimi.worst_error(qwen.expected_logits(model, tokens), kimi.logits(folder, tokens)[0])
    assert error < FLOAT32, f"{shape}: {error:.3g} of the logits' size"


@pytest.mark.parametrize("shape", ["next", "moe", slow("dense_tied")])
def test_ways_to_run(shape, tmp_path):
    """Chunks of prefill and mapped files give the same logits."""
    model = qwen.made(shape)
    folder, tokens = saved(model, tmp_path / "model"), kimi.random_tokens(model, 1, 50)
    ours = kimi.logits(folder, tokens)[0]
    assert kimi.worst_error(ours, kimi.logits(folder, tokens, "--chunk", 7)[0]) < 3e-5
    assert torch.equal(ours, kimi.logits(folder, tokens, "--mmap")[0])


@pytest.mark.parametrize("shape", ["moe", slow("next")])
def test_experts_in_two_tensors(shape, tmp_path):
    model = qwen.made(shape)
    tokens = kimi.random_tokens(model, 1, 30)
    apart = saved(model, tmp_path / "apart")
    together = saved(model, tmp_path / "together", save_original_format=False)
    assert any(name.endswith("experts.gate_up_proj") for name in load_file(together / kimi.WHOLE))
    assert torch.equal(kimi.logits(apart, tokens)[0], kimi.logits(together, tokens)[0])


@pytest.mark.parametrize("shape", some(["next", "dense", "moe", "dense_tied", "next_dense_first"], 2))
def test_greedy(shape, tmp_path):
    model = qwen.made(shape, seed=5)
    folder = saved(model, tmp_path / "model")
    prompts = [kimi.random_tokens(model, length, seed=length) for length in (1, 19, 6)]
    expected, gaps = zip(*(qwen.greedy(model, prompt, 12) for prompt in prompts))
    assert min(gaps) > 1e-3, f"choose another seed: two tokens are only {min(gaps):.2g} apart"
    assert kimi.generate(folder, prompts, 12, "--ignore-eos") == list(expected)


def test_text_model_of_a_multimodal_one(tmp_path):
    """Names and config as in the published files, which also have a vision tower and layers for multi-token prediction."""
    model = qwen.made("dense")
    folder, tokens = saved(model, tmp_path / "model"), kimi.random_tokens(model, 1, 20)
    ours = kimi.logits(folder, tokens)[0]
    fields = json.loads((folder / "config.json").read_text())
    whole = {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": fields,
             "vision_config": {"depth": 2}, "image_token_id": 50, "video_token_id": 51, "vision_start_token_id": 52,
             "vision_end_token_id": 53, "tie_word_embeddings": False, "transformers_version": "5.0.0"}
    (folder / "config.json").write_text(json.dumps(whole))
    tensors = {name.replace("model.", "model.language_model.", 1): x for name, x in load_file(folder / kimi.WHOLE).items()}
    extra = {"model.visual.patch_embed.proj.weight": torch.ones(3, 2), "mtp.fc.weight": torch.ones(2, 2)}
    save_file(tensors | extra, folder / kimi.WHOLE)
    assert torch.equal(ours, kimi.logits(folder, tokens)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow(dtype, tmp_path):
    """Rounded weights change the logits by about their rounding; every expert is chosen, so the choice cannot change."""
    model = qwen.made("moe_tied")
    folder, tokens = saved(model, tmp_path / "model"), kimi.random_tokens(model, 1, 40)
    exact, ours = qwen.expected_logits(model, tokens), kimi.logits(folder, tokens, "--dtype", dtype)[0]
    assert (exact - ours).square().mean().sqrt() < 0.15 * exact.square().mean().sqrt()

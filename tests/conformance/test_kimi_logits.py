# SPDX-License-Identifier: Apache-2.0
"""Logits of klab against transformers' Kimi Linear, on small random checkpoints written by transformers."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

import kimi
from kimi import FULL, LINEAR, slow, some

FLOAT32 = 5e-5  # limit of kimi.worst_error() against transformers
SAME = 3e-5  # limit of kimi.worst_error() between two ways to compute the same logits in klab
ALL_CHOSEN = dict(num_local_experts=5, num_experts_per_tok=5)  # every expert, so rounding cannot change the choice

LARGE = {
    "public_heads": dict(vocab_size=2003, hidden_size=384, intermediate_size=416, moe_intermediate_size=96,
                         num_attention_heads=3, num_key_value_heads=3, linear_num_heads=2, linear_head_dim=128,
                         qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=120, kv_lora_rank=112,
                         num_local_experts=32, num_experts_per_tok=8, num_hidden_layers=8, rms_norm_eps=1e-5,
                         layer_types=([LINEAR] * 3 + [FULL]) * 2),
    "many_experts": dict(vocab_size=500, hidden_size=96, moe_intermediate_size=16, num_local_experts=256,
                         num_experts_per_tok=8, n_group=8, topk_group=4, n_shared_experts=3, dense=2),
    "wide_heads": dict(vocab_size=301, hidden_size=200, linear_num_heads=2, linear_head_dim=256, num_attention_heads=6,
                       num_key_value_heads=6, kv_lora_rank=250, q_lora_rank=190),
}


class Checkpoint:
    """A model, its folder, random tokens and transformers' float32 logits for them."""

    def __init__(self, modeling, folder, shape="plain", length=70, dtype=torch.float32, **changes):
        self.model, self.dtype = kimi.made(modeling, shape, dtype=dtype, **changes), dtype
        self.folder = kimi.save(self.model, folder / "model", dtype)
        self.tokens = kimi.random_tokens(self.model, 2, length)
        self.exact = kimi.expected_logits(self.model, self.tokens)

    def klab(self, *options):
        return kimi.logits(self.folder, self.tokens, *options)[0]

    def transformers(self):
        """transformers' logits in the dtype of the file."""
        logits = kimi.expected_logits(self.model.to(self.dtype), self.tokens)
        self.model.float()
        return logits


@pytest.fixture(scope="module")
def plain(modeling, tmp_path_factory):
    checkpoint = Checkpoint(modeling, tmp_path_factory.mktemp("plain"), length=150)
    checkpoint.ours = checkpoint.klab()
    return checkpoint


@pytest.fixture(scope="module")
def groups(modeling, tmp_path_factory):
    """A checkpoint with groups of experts, in bfloat16."""
    checkpoint = Checkpoint(modeling, tmp_path_factory.mktemp("groups"), "groups", dtype=torch.bfloat16)
    checkpoint.ours = checkpoint.klab()
    return checkpoint


def rms(x):
    return x.double().square().mean().sqrt().item()


# --- Shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", kimi.SHAPES)
def test_every_shape(modeling, shape, tmp_path):
    checkpoint = Checkpoint(modeling, tmp_path, shape)
    error = kimi.worst_error(checkpoint.exact, checkpoint.klab())
    assert error < FLOAT32, f"{shape}: {error:.3g} of the logits' size"


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("seed", [1, 2])
def test_larger_shapes(modeling, name, seed, tmp_path):
    checkpoint = Checkpoint(modeling, tmp_path, length=200, seed=seed, **LARGE[name])
    error = kimi.worst_error(checkpoint.exact, checkpoint.klab())
    assert error < 2 * FLOAT32, f"{name}: {error:.3g} of the logits' size"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", kimi.SHAPES)
def test_other_weights(modeling, shape, seed, tmp_path):
    checkpoint = Checkpoint(modeling, tmp_path, shape, seed=100 + seed)
    error = kimi.worst_error(checkpoint.exact, checkpoint.klab())
    assert error < FLOAT32, f"{shape}, seed {100 + seed}: {error:.3g} of the logits' size"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_no_shared_experts(modeling, tmp_path):
    """transformers still writes the tensors of the shared experts, with zero elements."""
    checkpoint = Checkpoint(modeling, tmp_path, n_shared_experts=0)
    assert kimi.worst_error(checkpoint.exact, checkpoint.klab()) < FLOAT32


def test_transformers_as_it_is(plain):
    """Unmodified transformers, whose chunked form is less accurate (see kimi.by_token)."""
    assert kimi.worst_error(kimi.expected_logits(plain.model, plain.tokens, chunked=True), plain.ours) < 2e-4


@pytest.mark.parametrize("name, value", [("layernorm.weight", 1), ("kv_a_layernorm.weight", 1), ("o_norm.weight", 1),
                                         ("model.norm.weight", 1), ("A_log", 0), ("dt_bias", 0), ("correction_bias", 0),
                                         ("conv1d.weight", 0.5), ("g_b_proj.weight", 0), ("b_proj.weight", 0),
                                         ("shared_experts.down_proj.weight", 0), ("gate.weight", 0)])
def test_the_weights_matter(modeling, plain, name, value):
    """Each of these tensors affects the logits enough that ignoring it would fail a test above."""
    model = kimi.made(modeling)
    for key, tensor in model.state_dict().items():
        if key.endswith(name):
            tensor.fill_(value)
    assert kimi.worst_error(plain.exact, kimi.expected_logits(model, plain.tokens)) > 100 * FLOAT32


def test_the_latents_norm_has_its_own_eps(modeling, tmp_path):
    """eps of the latent's norm is 1e-6 regardless of rms_norm_eps; with 1e-3 the shape "eps" would fail."""
    checkpoint = Checkpoint(modeling, tmp_path, "eps", length=20)
    for layer in checkpoint.model.model.layers:
        for name in ("kv_a_layernorm", "q_a_layernorm"):
            if hasattr(layer.self_attn, name):
                getattr(layer.self_attn, name).variance_epsilon = 1e-3
    other = kimi.expected_logits(checkpoint.model, checkpoint.tokens)
    assert kimi.worst_error(checkpoint.exact, other) > 20 * FLOAT32


@pytest.mark.slow
def test_no_shared_key(modeling, tmp_path):
    """qk_rope_head_dim = 0: keys have no part that all heads share."""
    checkpoint = Checkpoint(modeling, tmp_path, qk_rope_head_dim=0)
    assert kimi.worst_error(checkpoint.exact, checkpoint.klab()) < FLOAT32


# --- Other dtypes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, changes", [("dense", {}), slow("plain", ALL_CHOSEN), ("q_lora_rank", ALL_CHOSEN),
                                            slow("shared", ALL_CHOSEN), slow("full", ALL_CHOSEN)], ids=str)
def test_bfloat16(modeling, shape, changes, tmp_path):
    """Without a choice of experts: as close to the float32 logits as transformers in bfloat16, and the same argmax where
    the gap between the two largest logits exceeds the rounding error."""
    checkpoint = Checkpoint(modeling, tmp_path, shape, dtype=torch.bfloat16, **changes)
    exact, theirs, ours = checkpoint.exact, checkpoint.transformers(), checkpoint.klab()
    worst = (theirs - exact).abs().max()
    assert (ours - exact).abs().max() < 1.5 * worst + 0.01 * rms(exact), f"{shape}: largest error"
    assert rms(ours - exact) < 1.2 * rms(theirs - exact), f"{shape}: error as a root mean square"
    best = exact.topk(2).values
    clear = best[..., 0] - best[..., 1] > 3 * worst
    assert clear.float().mean() > 0.1, f"{shape}: too few clear tokens to say anything"
    assert torch.equal(exact.argmax(-1)[clear], ours.argmax(-1)[clear]), f"{shape}: another first token"


@pytest.mark.parametrize("shape", some(["groups", "shared", "eps"], 3))
def test_bfloat16_with_a_choice_of_experts(modeling, shape, tmp_path):
    """Rounding can change the choice of experts, in transformers as in klab; hence the median over positions."""
    checkpoint = Checkpoint(modeling, tmp_path, shape, dtype=torch.bfloat16)
    exact = checkpoint.exact

    def median(logits):
        return (logits - exact).abs().amax(-1).median().item()

    ours, theirs = median(checkpoint.klab()), median(checkpoint.transformers())
    assert ours < 1.3 * theirs, f"{shape}: {ours:.3g}, transformers {theirs:.3g}"


@pytest.mark.parametrize("dtype, options", [(torch.bfloat16, ["--dtype", "float32"]), (torch.float16, []),
                                            slow(torch.float16, ["--dtype", "float32"])], ids=str)
def test_narrow_files_in_float32(modeling, dtype, options, tmp_path):
    checkpoint = Checkpoint(modeling, tmp_path, "q_lora_rank", dtype=dtype)
    assert kimi.worst_error(checkpoint.exact, checkpoint.klab(*options)) < FLOAT32


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.04), ("float16", 0.005)])
def test_weights_rounded_when_they_are_read(modeling, dtype, tolerance, tmp_path):
    checkpoint = Checkpoint(modeling, tmp_path, **ALL_CHOSEN)
    error = rms(checkpoint.klab("--dtype", dtype) - checkpoint.exact) / rms(checkpoint.exact)
    assert tolerance / 20 < error < tolerance


@pytest.mark.parametrize("shape, changes", [("dense", {}), ("q_lora_rank", ALL_CHOSEN)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, slow(torch.bfloat16)], ids=str)
def test_int8(modeling, shape, changes, dtype, tmp_path):
    """Measured errors: weights 0.57 to 0.60 %, logits 4 to 6 %."""
    checkpoint = Checkpoint(modeling, tmp_path, shape, dtype=dtype, **changes)
    ours, said = kimi.logits(checkpoint.folder, checkpoint.tokens, "--dtype", "int8")
    (error,) = re.findall(r"quantisation error ([0-9.]+) %", said)
    assert 0.1 < float(error) < 1.5
    assert 0.002 < rms(ours - checkpoint.exact) / rms(checkpoint.exact) < 0.08


# --- Chunks, batches, mapped files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64, slow(149)])
def test_chunks(plain, chunk):
    logits = plain.klab("--chunk", chunk)
    assert kimi.worst_error(plain.ours, logits) < SAME
    assert kimi.worst_error(plain.exact, logits) < FLOAT32


def test_one_sequence_alone(plain):
    alone = kimi.logits(plain.folder, plain.tokens[1:])[0]
    assert kimi.worst_error(plain.ours[1:], alone) < SAME


def test_a_prefix(plain):
    """No logit depends on later tokens."""
    assert kimi.worst_error(plain.ours[:, :67], kimi.logits(plain.folder, plain.tokens[:, :67])[0]) < SAME


def test_tokens_from_a_file(plain, tmp_path):
    kimi.save_file({"tokens": plain.tokens}, tmp_path / "tokens")
    kimi.succeed("logits", "--model", plain.folder, "--tokens-file", tmp_path / "tokens", "--out", tmp_path / "out")
    assert torch.equal(plain.ours, load_file(tmp_path / "out")["logits"])


def test_mapped(plain, groups):
    for checkpoint in (plain, groups):
        assert torch.equal(checkpoint.ours, checkpoint.klab("--mmap"))


def test_one_thread(plain):
    assert kimi.worst_error(plain.ours, plain.klab("--threads", 1)) < SAME


@pytest.mark.parametrize("tokens, complaint", some([
    ("5,17,101", "101"), ("5,-1", "-1"), ("5,x", "'x'"), ("", "--tokens"), ("5,6;7", "prompts of 2 and of 1"),
    ("5.5", "5.5"), ("5,,6", "''"), ("99999999999999999999", "99999999999999999999")], 4))
def test_tokens_that_are_none(plain, tokens, complaint, tmp_path):
    done = kimi.klab("logits", "--model", plain.folder, "--tokens", tokens, "--out", tmp_path / "out")
    assert done.returncode == 2 and complaint in done.stderr
    assert not list(tmp_path.iterdir())


# --- The same weights, stored in other ways ---------------------------------------------------------------------------


def test_shards(plain, groups, tmp_path):
    for name, checkpoint, options in (("mapped", plain, ["--mmap"]), ("read", groups, [])):
        folder = kimi.save(checkpoint.model, tmp_path / name, checkpoint.dtype, max_shard_size="60KB")
        assert len(list(folder.glob("*.safetensors"))) > 3
        assert torch.equal(checkpoint.ours, kimi.logits(folder, checkpoint.tokens, *options)[0])


@pytest.mark.parametrize("options", [["--mmap"], slow([])], ids=["map", "load"])
def test_the_names_that_transformers_has_in_memory(plain, groups, options, tmp_path):
    for name, checkpoint in (("plain", plain), ("groups", groups)):
        folder = kimi.save(checkpoint.model, tmp_path / name, checkpoint.dtype, save_original_format=False)
        names = load_file(folder / kimi.WHOLE).keys()
        for part in ("self_attn.conv1d.weight", "forget_gate.A_log", "mlp.experts.gate_up_proj", "mlp.gate.weight"):
            assert any(part in name for name in names)
        assert torch.equal(checkpoint.ours, kimi.logits(folder, checkpoint.tokens, *options)[0])


def spelled(tensors, spelling):
    """Replaces tensors by reshaped ones with the same values."""
    for name, x in tensors.items():
        if "conv1d" in name:
            tensors[name] = x.reshape({"short": (len(x), -1), "long": (len(x), 1, -1)}[spelling])
        if name.endswith("A_log"):
            tensors[name] = x.reshape({"short": (-1,), "long": (-1, 1)}[spelling])
        if name.endswith("dt_bias"):
            tensors[name] = x.reshape({"short": (-1,), "long": (3, 20)}[spelling])


@pytest.mark.parametrize("spelling", ["short", "long"])
def test_spellings(plain, spelling, tmp_path):
    folder = kimi.rewritten(plain.folder, tmp_path / "model", lambda tensors: spelled(tensors, spelling))
    assert torch.equal(plain.ours, kimi.logits(folder, plain.tokens)[0])


def test_rates_in_float32_beside_bfloat16(modeling, groups, tmp_path):
    """A_log and dt_bias in float32 in a bfloat16 checkpoint, as in the published files; bfloat16 would round them."""
    model, drawn = kimi.made(modeling, "groups", dtype=torch.bfloat16), kimi.made(modeling, "groups")
    wide = {name: x for name, x in drawn.state_dict().items() if name.endswith(("A_log", "dt_bias"))}
    model.load_state_dict(wide, strict=False)

    def widen(tensors):
        for name, x in wide.items():
            tensors[name.replace("forget_gate.", "")] = x.clone()

    folder = kimi.rewritten(groups.folder, tmp_path / "model", widen)
    exact = kimi.expected_logits(model, groups.tokens)
    ours = kimi.logits(folder, groups.tokens, "--dtype", "float32")[0]
    assert kimi.worst_error(exact, ours) < FLOAT32
    assert kimi.worst_error(exact, groups.exact) > 100 * FLOAT32


@pytest.mark.parametrize("by", [1, slow(2), slow(4)])
def test_data_at_odd_places(plain, by, tmp_path):
    """A header length that is not a multiple of eight, which the format allows, so tensor data is unaligned."""
    def change(data):
        header, data = kimi.header_of(data)
        text = json.dumps(header)
        return kimi.with_header(text + " " * (-len(text) % 8 + by), data)

    shutil.copytree(plain.folder, tmp_path / "model")
    (tmp_path / "model" / kimi.WHOLE).write_bytes(change((plain.folder / kimi.WHOLE).read_bytes()))
    assert torch.equal(plain.ours, kimi.logits(tmp_path / "model", plain.tokens, "--mmap")[0])


def test_tensors_that_are_passed_over(plain, tmp_path):
    def add(tensors):
        tensors["model.mtp.x"] = torch.ones(3)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)

    folder = kimi.rewritten(plain.folder, tmp_path / "model", add)
    assert torch.equal(plain.ours, kimi.logits(folder, plain.tokens)[0])

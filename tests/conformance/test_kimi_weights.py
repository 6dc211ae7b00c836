# SPDX-License-Identifier: Apache-2.0
"""Damaged or mismatched weight files: exit status 1, a message with the file or tensor name, no output file left."""

import json
import shutil
import struct
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import kimi
from kimi import INDEX, WHOLE, slow, some

LIMIT = 10  # seconds until a rejection on a busy machine
NAME = "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def made(modeling, tmp_path_factory):
    """A checkpoint in one file, in shards, and with the tensor names that transformers uses in memory."""
    root = tmp_path_factory.mktemp("made")

    class Made:
        model = kimi.made(modeling)
        whole = kimi.save(model, root / "whole")
        shards = kimi.save(model, root / "shards", max_shard_size="100KB")
        memory = kimi.save(model, root / "memory", save_original_format=False)

    return Made


def refused(folder, *complaints, options=(), status=1):
    out = folder / "logits"
    begin = time.monotonic()
    done = kimi.klab("logits", "--model", folder, "--tokens", "5,6,7", "--out", out, *options)
    assert done.returncode == status, done.stderr[:2000]
    assert time.monotonic() - begin < LIMIT and len(done.stderr) < 2000
    for complaint in complaints:
        assert complaint in done.stderr, done.stderr
    assert not list(folder.glob("logits*")), "the output was left behind"


def with_bytes(made, folder, change):
    """A copy of the single-file checkpoint with `change` applied to the file's bytes."""
    shutil.copytree(made.whole, folder)
    (folder / WHOLE).write_bytes(change((made.whole / WHOLE).read_bytes()))
    return folder


# --- Bytes ------------------------------------------------------------------------------------------------------------


BYTES = {
    "empty": lambda data: b"",
    "seven bytes": lambda data: data[:7],
    "cut within the header": lambda data: data[:1000],
    "cut within the last tensor": lambda data: data[:-1],
    "half": lambda data: data[:len(data) // 2],
    "more behind the end": lambda data: data + b"\0",
    "a header of the largest length": lambda data: b"\xff" * 8 + data[8:],
    "a header of a signed length": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "a header as long as the file": lambda data: struct.pack("<Q", len(data) - 8) + data[8:],
    "a header that is no JSON": lambda data: data[:8] + b"x" + data[9:],
    "a header that is a list": lambda data: kimi.with_header("[1]", b""),
    "a header of nothing": lambda data: kimi.with_header("{}", b""),
    "a header of zeros": lambda data: bytes(len(data)),
    "a header of deep lists": lambda data: kimi.with_header('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", b""),
}


@pytest.mark.parametrize("kind", some(BYTES, 5))
def test_bytes(made, kind, tmp_path):
    refused(with_bytes(made, tmp_path / "model", BYTES[kind]), "tensor '" if kind == "a header of nothing" else WHOLE)


def swapped(entry, **fields):
    return {**entry, **fields}


def deep(levels):
    return json.loads("[" * levels + "]" * levels)


ENTRIES = {
    "offsets that overlap": lambda e: swapped(e, data_offsets=[x - 4 for x in e["data_offsets"]]),
    "offsets that leave a hole": lambda e: swapped(e, data_offsets=[x + 4 for x in e["data_offsets"]]),
    "offsets backwards": lambda e: swapped(e, data_offsets=e["data_offsets"][::-1]),
    "offsets beyond the file": lambda e: swapped(e, data_offsets=[e["data_offsets"][0], 2**40]),
    "offsets that wrap around": lambda e: swapped(e, data_offsets=[2**64 - 8, e["data_offsets"][1]]),
    "negative offsets": lambda e: swapped(e, data_offsets=[-8, 0]),
    "one offset": lambda e: swapped(e, data_offsets=e["data_offsets"][:1]),
    "offsets in words": lambda e: swapped(e, data_offsets=["0", "8"]),
    "another shape in as many bytes": lambda e: swapped(e, shape=e["shape"][::-1]),
    "a shape in one dimension": lambda e: swapped(e, shape=[e["shape"][0] * e["shape"][1]]),
    "a shape of too many bytes": lambda e: swapped(e, shape=[e["shape"][0] + 1, e["shape"][1]]),
    "a shape that overflows": lambda e: swapped(e, shape=[2**62, 2**62]),
    "a shape that overflows to its bytes": lambda e: swapped(e, shape=[2**63, 2, *e["shape"]]),
    "a negative shape": lambda e: swapped(e, shape=[-x for x in e["shape"]]),
    "a shape of fractions": lambda e: swapped(e, shape=[float(x) for x in e["shape"]]),
    "a shape in words": lambda e: swapped(e, shape="60x72"),
    "whole numbers": lambda e: swapped(e, dtype="I32"),
    "an unknown dtype": lambda e: swapped(e, dtype="F4"),
    "no dtype": lambda e: {name: value for name, value in e.items() if name != "dtype"},
    "no object": lambda e: 5,
    "null": lambda e: None,
}


@pytest.mark.parametrize("kind", some(ENTRIES, 6))
def test_entries_of_the_header(made, kind, tmp_path):
    def change(data):
        header, data = kimi.header_of(data)
        header[NAME] = ENTRIES[kind](header[NAME])
        return kimi.with_header(header, data)

    refused(with_bytes(made, tmp_path / "model", change), "tensor '")


@pytest.mark.parametrize("metadata", [slow(5), {"a": 5}, slow([1])], ids=str)
def test_metadata(made, metadata, tmp_path):
    """__metadata__ must map strings to strings; anything else is rejected with the file's name."""
    def change(data):
        header, data = kimi.header_of(data)
        return kimi.with_header({**header, "__metadata__": metadata}, data)

    refused(with_bytes(made, tmp_path / "model", change), WHOLE)


def test_a_name_twice(made, tmp_path):
    def change(data):
        header, data = kimi.header_of(data)
        text = json.dumps(header)
        return kimi.with_header(f'{text[:-1]}, "{NAME}": {json.dumps(header[NAME])}}}', data)

    refused(with_bytes(made, tmp_path / "model", change), NAME, "twice")


# --- Tensors ----------------------------------------------------------------------------------------------------------


def without(name):
    return lambda tensors: {key: x for key, x in tensors.items() if key != name}


def replaced(name, x):
    return lambda tensors: {**tensors, name: x(tensors.get(name))}


LAYER = "model.layers.1."
BIAS = LAYER + "block_sparse_moe.gate.e_score_correction_bias"
EXPERT = LAYER + "block_sparse_moe.experts."
TENSORS = {
    "no projection": (without(NAME), NAME),
    "no embedding": (without("model.embed_tokens.weight"), "model.embed_tokens.weight"),
    "no head": (without("lm_head.weight"), "lm_head.weight"),
    "no bias of the router": (without(BIAS), BIAS),
    "no last expert": (without(EXPERT + "7.w2.weight"), "experts.7.w2.weight"),
    "one expert more": (replaced(EXPERT + "8.w2.weight", lambda x: torch.ones(72, 28)), "experts.8"),
    "a bias": (replaced(LAYER + "self_attn.g_b_proj.bias", lambda x: torch.ones(60)), "g_b_proj.bias"),
    "a layer more": (replaced("model.layers.4.input_layernorm.weight", lambda x: torch.ones(72)), "model.layers.4."),
    "mtp elsewhere": (replaced("mtp.model.x", lambda x: torch.ones(1)), "mtp.model.x"),
    "a row more": (replaced(NAME, lambda x: torch.cat([x, x[:1]])), NAME),
    "transposed": (replaced(NAME, lambda x: x.T.contiguous()), NAME),
    "no row": (replaced(NAME, lambda x: x[:0]), NAME),
    "five taps": (replaced(LAYER + "self_attn.q_conv1d.weight", lambda x: torch.ones(60, 1, 5)), "q_conv1d"),
    "taps first": (replaced(LAYER + "self_attn.q_conv1d.weight", lambda x: torch.ones(1, 4, 60)), "q_conv1d"),
    "A_log by channel": (replaced(LAYER + "self_attn.A_log", lambda x: torch.ones(1, 1, 3, 20)), "A_log"),
    "dt_bias by head": (replaced(LAYER + "self_attn.dt_bias", lambda x: torch.ones(3)), "dt_bias"),
    "dt_bias turned": (replaced(LAYER + "self_attn.dt_bias", lambda x: torch.ones(20, 3)), "dt_bias"),
    "whole numbers": (replaced(NAME, lambda x: x.to(torch.int32)), NAME),
    "truth values": (replaced("model.norm.weight", lambda x: x > 0), "model.norm.weight"),
    "eight bits": (replaced(NAME, lambda x: x.to(torch.float8_e4m3fn)), NAME),
    "complex": (replaced(NAME, lambda x: x.to(torch.complex64)), NAME),
}


@pytest.mark.parametrize("kind", some(TENSORS, 5))
@pytest.mark.parametrize("options", [(), slow(("--mmap",))], ids=["load", "map"])
def test_tensors(made, kind, options, tmp_path):
    change, complaint = TENSORS[kind]
    refused(kimi.rewritten(made.whole, tmp_path / "model", change), complaint, options=options)


MEMORY = {
    "too few experts": (LAYER + "mlp.experts.gate_up_proj", lambda x: x[:7]),
    "too many experts": (LAYER + "mlp.experts.down_proj", lambda x: torch.cat([x, x[:1]])),
    "too few rows": (LAYER + "mlp.experts.gate_up_proj", lambda x: x[:, :-1]),
    "too many rows": (LAYER + "mlp.experts.gate_up_proj", lambda x: torch.cat([x, x[:, :2]], 1)),
    "too few channels": (LAYER + "self_attn.conv1d.weight", lambda x: x[:-1]),
    "too many channels": (LAYER + "self_attn.conv1d.weight", lambda x: torch.cat([x, x])),
    "two dimensions": (LAYER + "mlp.experts.down_proj", lambda x: x[0]),
}


@pytest.mark.parametrize("kind", some(MEMORY, 3))
def test_fused_tensors(made, kind, tmp_path):
    name, change = MEMORY[kind]
    changes = replaced(name, lambda x: change(x).contiguous())
    refused(kimi.rewritten(made.memory, tmp_path / "model", changes), name)


def test_both_spellings_at_once(made, tmp_path):
    """The same weights under two names, whose values may differ, are rejected."""
    name = LAYER + "self_attn.conv1d.weight"
    fused = load_file(made.memory / WHOLE)[name]
    refused(kimi.rewritten(made.whole, tmp_path / "model", lambda tensors: {**tensors, name: fused}), name)


@pytest.mark.parametrize("value", [float("nan"), slow(float("inf"))], ids=str)
def test_int8_of_numbers_that_are_none(made, value, tmp_path):
    change = replaced(NAME, lambda x: x.index_fill(0, torch.tensor([3]), value))
    folder = kimi.rewritten(made.whole, tmp_path / "model", change)
    refused(folder, NAME, options=("--dtype", "int8"))


def test_int8_of_zeros(made, tmp_path):
    """Rows of zeros, whose quantisation scale would be zero."""
    change = replaced(NAME, lambda x: x * (torch.arange(60) % 2)[:, None])
    folder = kimi.rewritten(made.whole, tmp_path / "model", change)
    assert torch.isfinite(kimi.logits(folder, [[5, 6, 7]], "--dtype", "int8")[0]).all()


# --- Shards -----------------------------------------------------------------------------------------------------------


def place(name, shard):
    return lambda index: index["weight_map"].update({name: shard})


def names_twice(index):
    return json.dumps(index).replace('"weight_map": {', '"weight_map": {"lm_head.weight": "model.safetensors", ', 1)


INDICES = {
    "a shard outside": (place(NAME, "../x.safetensors"), "../x"),
    "a shard from the root": (place(NAME, "/etc/passwd"), "/etc/passwd"),
    "a shard in a folder": (place(NAME, "a/b.safetensors"), "a/b"),
    "the folder": (place(NAME, "."), "plain file"),
    "the folder above": (place(NAME, ".."), "plain file"),
    "a shard without a name": (place(NAME, ""), NAME),
    "a number": (place(NAME, 5), NAME),
    "a shard that is not there": (place(NAME, "none.safetensors"), "none.safetensors"),
    "a shard that is config.json": (place(NAME, "config.json"), "config.json"),
    "a shard that lacks it": (place("model.layers.9.x", "model-00001-of-00012.safetensors"), "model.layers.9.x"),
    "a tensor that it does not name": (lambda index: index["weight_map"].pop(NAME), NAME),
    "no weights": (lambda index: index["weight_map"].clear(), INDEX),
    "no map": (lambda index: index.pop("weight_map"), "weight_map"),
    "a list": (lambda index: index.update(weight_map=[1]), "weight_map"),
    "a name twice": (names_twice, "lm_head.weight"),
    "no JSON": (lambda index: "{", INDEX),
    "deep": (lambda index: '{"weight_map": {"x": ' + "[" * 200_000 + "]" * 200_000 + "}}", "nested"),
    "empty": (lambda index: "", INDEX),
}


@pytest.mark.parametrize("kind", some(INDICES, 8))
def test_indices(made, kind, tmp_path):
    change, complaint = INDICES[kind]
    folder = tmp_path / "model"
    shutil.copytree(made.shards, folder)
    index = json.loads((folder / INDEX).read_text())
    shards = sorted(set(index["weight_map"].values()))
    text = change(index)
    text = text if kind in ("a name twice", "no JSON", "deep", "empty") else json.dumps(index)
    (folder / INDEX).write_text(text.replace("model-00001-of-00012.safetensors", shards[0]))
    refused(folder, complaint)


def test_a_tensor_in_another_shard(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made.shards, folder)
    index = json.loads((folder / INDEX).read_text())
    other = next(shard for shard in index["weight_map"].values() if shard != index["weight_map"][NAME])
    index["weight_map"][NAME] = other
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder, NAME)


def test_a_tensor_in_two_shards(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made.shards, folder)
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    other = next(shard for shard in index.values() if shard != index[NAME])
    tensors = load_file(folder / other)
    save_file({**tensors, NAME: torch.zeros(60, 72)}, folder / other)
    refused(folder, NAME)


def test_a_damaged_shard(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made.shards, folder)
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    refused(folder, shard.name)
    shard.unlink()
    refused(folder, shard.name)


def test_no_weights_or_too_many(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made.shards, folder)
    shutil.copy(made.whole / WHOLE, folder)
    refused(folder, INDEX, WHOLE)
    for path in folder.glob("model*"):
        path.unlink()
    refused(folder, INDEX, WHOLE)
    (folder / WHOLE).mkdir()
    refused(folder, WHOLE)
    refused(tmp_path / "nothing", "nothing", status=2)


def test_an_output_that_cannot_be(made, tmp_path):
    for out in (tmp_path / "no" / "folder", tmp_path):
        done = kimi.klab("logits", "--model", made.whole, "--tokens", "5,6,7", "--out", out)
        assert done.returncode in (1, 2) and str(out) in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_older_output_stays(made, tmp_path):
    """An existing output file is kept if the command fails."""
    folder, out = with_bytes(made, tmp_path / "model", BYTES["half"]), tmp_path / "out"
    out.write_text("mine")
    done = kimi.klab("logits", "--model", folder, "--tokens", "5,6,7", "--out", out)
    assert done.returncode == 1 and out.read_text() == "mine"

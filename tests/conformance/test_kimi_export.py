# SPDX-License-Identifier: Apache-2.0
"""Runs trained and exported by klab, loaded by transformers and by klab."""

import json

import pytest
import torch
from safetensors.torch import load_file

import kimi
from kimi import slow, some

FLOAT32 = 5e-5  # tolerance relative to the RMS of a position's logits

TASK = ["--task.name", "palindrome", "--task.length", 8, "--task.vocab", 20]
STEPS = ["--train.batch", 4, "--train.eval_every", 2, "--train.eval_examples", 8, "--train.lr", 0.02]
SIZES = ["--model.width", 40, "--model.heads", 2, "--model.head_dim", 12]
EXPERTS = ["--model.layers", 4, "--model.pattern", "kda,kda,mla", "--model.moe.experts", 4,
           "--model.moe.experts_per_token", 2]
MLA = ["--model.mla.heads", 5, "--model.mla.nope_dim", 14, "--model.mla.rope_dim", 6, "--model.mla.value_dim", 18,
       "--model.mla.kv_lora_rank", 26]

RUNS = {
    "experts": [*SIZES, *EXPERTS],
    "everything": [*SIZES, *MLA, "--model.layers", 3, "--model.pattern", "mla,kda", "--model.last_layer", "mla",
                   "--model.mla.q_lora_rank", 22, "--model.kda.conv_size", 3, "--model.norm_eps", 1e-4,
                   "--model.moe.experts", 8, "--model.moe.groups", 4, "--model.moe.groups_per_token", 2,
                   "--model.moe.experts_per_token", 3, "--model.moe.expert_width", 28, "--model.moe.shared_experts", 2,
                   "--model.moe.scaling", 1.3, "--model.moe.renormalise", "false", "--model.first_dense", 0,
                   "--model.vocab", 77],
    "dense": [*SIZES, "--model.layers", 2, "--model.pattern", "kda,mla", "--model.mlp_width", 56],
    "none_shared": [*SIZES, *EXPERTS, "--model.moe.shared_experts", 0],
    "only_kda": [*SIZES, "--model.layers", 2, "--model.pattern", "kda"],
    "only_mla": [*SIZES, *MLA, "--model.layers", 2, "--model.pattern", "mla"],
}


def trained(folder, *options, steps=6):
    kimi.succeed("--quiet", "--out", folder, "train", *TASK, *STEPS, "--train.steps", steps, *options)
    return folder


def exported(run, folder, *options):
    kimi.succeed("--quiet", "export", run, "--out", folder, *options)
    return folder


@pytest.fixture(scope="module")
def runs(modeling, tmp_path_factory):
    """Run folders by name, trained on first use; the run "config" takes its model from a public config.json."""
    root, all = tmp_path_factory.mktemp("runs"), {}

    def run(name):
        if name == "config" and name not in all:
            kimi.config_of(modeling).save_pretrained(root / "public")
            all[name] = trained(root / name, "--model.config", root / "public" / "config.json")
        elif name not in all:
            all[name] = trained(root / name, *RUNS[name])
        return all[name]

    return run


def opened(modeling, folder, dtype=torch.float32):
    """The folder loaded by transformers; asserts that no weights are missing, unexpected or mismatched."""
    model, found = modeling.KimiLinearForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True,
                                                                  experts_implementation="eager")
    assert not any(found.values()), found
    return model.eval()


def check(modeling, folder, *options, length=40):
    model = opened(modeling, folder)
    tokens = torch.randint(0, model.config.vocab_size, (2, length))
    ours = kimi.logits(folder, tokens, *options)[0]
    assert kimi.worst_error(kimi.expected_logits(model, tokens), ours) < FLOAT32
    return ours


@pytest.mark.parametrize("name", ["everything", "dense", "config", "none_shared", slow("experts"), slow("only_kda"),
                                  slow("only_mla")])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_transformers_opens_it(modeling, runs, name, tmp_path):
    check(modeling, exported(runs(name), tmp_path / "model"))


def test_klab_says_the_same_of_run_and_export(modeling, runs, tmp_path):
    """`klab model` prints the same for both, and transformers has the same number of parameters."""
    folder = exported(runs("everything"), tmp_path / "model")
    run, public = (json.loads(kimi.succeed("model", path, "--json", "--length", 64).stdout)
                   for path in (runs("everything"), folder))
    assert run == public
    assert public["parameters"] == sum(x.numel() for x in opened(modeling, folder).state_dict().values())


@pytest.mark.parametrize("checkpoint", ["last", slow("best")])
def test_the_numbers_are_those_of_the_checkpoint(runs, checkpoint, tmp_path):
    """Every tensor is bit-identical; shape and name may differ."""
    folder = exported(runs("experts"), tmp_path / "model", "--checkpoint", checkpoint)
    stored = load_file(runs("experts") / "checkpoint" / f"{checkpoint}.safetensors")
    written = load_file(folder / kimi.WHOLE)
    parameters = [x for name, x in stored.items() if name.startswith("model.")]
    assert len(parameters) == len(written)
    assert sorted(x.numpy().tobytes() for x in parameters) == sorted(x.numpy().tobytes() for x in written.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, slow(torch.float16)], ids=str)
def test_narrow(modeling, runs, dtype, tmp_path):
    """Weights are rounded once; A_log and dt_bias stay in float32."""
    word = str(dtype).split(".")[1]
    folder = exported(runs("everything"), tmp_path / "model", "--dtype", word)
    wide = load_file(exported(runs("everything"), tmp_path / "wide") / kimi.WHOLE)
    narrow = load_file(folder / kimi.WHOLE)
    assert wide.keys() == narrow.keys() and json.loads((folder / "config.json").read_text())["dtype"] == word
    for name, x in wide.items():
        assert torch.equal(narrow[name], x if name.endswith(("A_log", "dt_bias")) else x.to(dtype)), name
    check(modeling, folder, "--dtype", "float32")
    assert opened(modeling, folder, "auto").dtype == dtype


def test_shards(modeling, runs, tmp_path):
    whole, parts = exported(runs("experts"), tmp_path / "whole"), tmp_path / "parts"
    exported(runs("experts"), parts, "--shard-gigabytes", 2e-5)
    files = sorted(path.name for path in parts.glob("*.safetensors"))
    assert len(files) > 4 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((parts / kimi.INDEX).read_text())
    assert sorted(set(index["weight_map"].values())) == files
    tensors = {name: x for file in files for name, x in load_file(parts / file).items()}
    one = load_file(whole / kimi.WHOLE)
    assert tensors.keys() == one.keys() and all(torch.equal(tensors[name], x) for name, x in one.items())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in one.values())
    assert all(sum(x.nbytes for x in load_file(parts / file).values()) <= 20_000 or len(load_file(parts / file)) == 1
               for file in files)
    check(modeling, parts)


def test_there_and_back(modeling, runs, tmp_path):
    """klab computes the same logits from an export after transformers has loaded and saved it."""
    folder = exported(runs("everything"), tmp_path / "model")
    model, tokens = opened(modeling, folder), torch.randint(0, 77, (2, 40))
    ours = kimi.logits(folder, tokens)[0]
    for name, options in (("published", {}), ("in memory", {"save_original_format": False})):
        again = kimi.save(model, tmp_path / name, **options)
        assert torch.equal(ours, kimi.logits(again, tokens)[0]), name


UNSAYABLE = [("model.kda.output_gate", "swish"), ("model.kda.short_conv", "false"), ("model.kda.lower_bound", "-5"),
             ("model.mla.norm_eps", "1e-5"), ("model.moe.biased_weights", "true"), ("model.pattern", "gdn,mla"),
             ("model.kda.full_rank_gates", "true"), ("model.kda.key_dim", "8"), ("model.kda.value_heads", "6"),
             ("model.kda.value_dim", "16"), ("model.kda.allow_neg_eigval", "true"), ("model.pattern", "kda:1+mla:1"),
             ("model.pattern", "kda,mla_rope")]


@pytest.mark.parametrize("key, value", some(UNSAYABLE, 9))
def test_what_the_layout_cannot_say(key, value, tmp_path):
    options = {"model.pattern": "kda,mla", "model.moe.experts": 4, "model.moe.experts_per_token": 2, key: value}
    words = [word for name, said in options.items() for word in (f"--{name}", said)]
    run = trained(tmp_path / "run", *SIZES, *words, steps=1)
    done = kimi.klab("export", run, "--out", tmp_path / "model")
    assert done.returncode == 2 and key in done.stderr, done.stderr
    assert not (tmp_path / "model").exists()


def test_bad_usage(runs, tmp_path):
    folder = exported(runs("dense"), tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = kimi.klab("export", runs("dense"), "--out", folder)
    assert again.returncode == 2 and "already contains a model" in again.stderr
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    out = ["--out", tmp_path / "x"]
    for arguments, complaint in (([runs("dense")], "--out"), ([tmp_path, *out], "config.yaml"),
                                 ([runs("dense"), *out, "--shard-gigabytes", "0"], "--shard-gigabytes")):
        done = kimi.klab("export", *arguments)
        assert done.returncode == 2 and complaint in done.stderr, done.stderr
        assert not (tmp_path / "x").exists()

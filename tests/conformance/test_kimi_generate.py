# SPDX-License-Identifier: Apache-2.0
"""klab generate against transformers' greedy decoding; stop tokens and sampling."""

import json
import shutil

import pytest
import torch

import kimi
from kimi import slow, some

NEW = 24
LENGTHS = (1, 19, 6, 70)  # prompt lengths


@torch.no_grad()
def greedy(model, prompt, new=NEW):
    """transformers' answer, and the smallest gap between the two largest logits over its tokens."""
    with kimi.by_token():
        out = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=new,
                             do_sample=False, eos_token_id=None, output_logits=True, return_dict_in_generate=True)
    best = torch.cat(out.logits).topk(2).values
    return out.sequences[0, len(prompt):].tolist(), (best[:, 0] - best[:, 1]).min().item()


class Asked:
    """A checkpoint, prompts of different lengths, and transformers' answer to each prompt alone."""

    def __init__(self, modeling, folder, shape="plain", seed=3, lengths=LENGTHS, new=NEW):
        self.model, self.new = kimi.made(modeling, shape, seed=seed), new
        self.folder = kimi.save(self.model, folder / "model")
        self.prompts = [kimi.random_tokens(self.model, length, seed=length) for length in lengths]
        self.expected, gaps = zip(*(greedy(self.model, prompt, new) for prompt in self.prompts))
        assert min(gaps) > 1e-3, f"choose other seeds: two tokens are only {min(gaps):.2g} apart"

    def answers(self, *options, prompts=None):
        return kimi.generate(self.folder, prompts or self.prompts, self.new, *options)


@pytest.fixture(scope="module")
def asked(modeling, tmp_path_factory):
    return Asked(modeling, tmp_path_factory.mktemp("plain"))


def copied(asked, folder, config=None, generation=None):
    """A copy of the checkpoint with changed fields in config.json, and with or without a generation_config.json."""
    shutil.copytree(asked.folder, folder)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "eos_token_id": None, **(config or {})}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def cut_behind(answer, stop):
    """The answer up to and including the first token in `stop`."""
    ends = [i for i, token in enumerate(answer) if token in stop]
    return answer[:ends[0] + 1] if ends else answer


# --- Greedy -----------------------------------------------------------------------------------------------------------


def test_a_batch(asked):
    """In a batch of different lengths, each prompt gets the answer that transformers gives to it alone; answers differ."""
    assert asked.answers("--ignore-eos") == list(asked.expected)
    assert all(len(set(answer)) > 5 for answer in asked.expected)
    assert len(set(map(tuple, asked.expected))) == len(LENGTHS)


@pytest.mark.parametrize("i", some(range(len(LENGTHS)), 3))
def test_alone(asked, i):
    assert asked.answers("--ignore-eos", prompts=[asked.prompts[i]]) == [asked.expected[i]]


@pytest.mark.parametrize("options", [["--chunk", 5], ["--mmap"], ["--temperature", 1.5, "--top-k", 1],
                                     ["--temperature", 1.5, "--top-p", 1e-6], slow(["--threads", 1]),
                                     slow(["--temperature", 1e-4])], ids=str)
def test_no_other_answer(asked, options):
    assert asked.answers("--ignore-eos", *options) == list(asked.expected)


@pytest.mark.parametrize("shape", some(["groups", "q_lora_rank", "full", "conv3"], 2))
def test_other_shapes(modeling, shape, tmp_path):
    asked = Asked(modeling, tmp_path, shape, lengths=(2, 9), new=12)
    assert asked.answers("--ignore-eos") == list(asked.expected), shape


@pytest.mark.parametrize("shape, dtype, options", [
    ("dense", torch.bfloat16, []), ("dense", torch.float32, ["--dtype", "int8"]), slow("full", torch.bfloat16, []),
    slow("dense", torch.bfloat16, ["--dtype", "int8"]), slow("dense", torch.float16, [])], ids=str)
def test_narrow_weights(modeling, shape, dtype, options, tmp_path):
    """Up to rounding, each generated token is the argmax of klab's logits for the whole text (prefill)."""
    model = kimi.made(modeling, shape, dtype=dtype, dense=4 if shape == "dense" else 3)
    folder, prompts = kimi.save(model, tmp_path / "model", dtype), kimi.random_tokens(model, 2, 9)
    answers = torch.tensor(kimi.generate(folder, prompts, NEW, "--ignore-eos", *options))
    logits = kimi.logits(folder, torch.cat([prompts, answers], 1), *options)[0][:, 8:-1]
    behind = logits.amax(-1) - logits.gather(-1, answers[..., None])[..., 0]
    assert (behind == 0).float().mean() > 0.9 and behind.max() < 0.2 * logits.square().mean().sqrt()


@pytest.mark.slow
def test_a_long_answer(modeling, tmp_path):
    asked = Asked(modeling, tmp_path, "dense", lengths=(3, 90), new=250)
    assert asked.answers("--ignore-eos") == list(asked.expected)


def test_no_token_at_all(asked):
    assert kimi.generate(asked.folder, asked.prompts, 0) == [[]] * len(LENGTHS)


# --- The end of an answer ---------------------------------------------------------------------------------------------


def third(asked):
    """A token somewhere in the second answer."""
    return asked.expected[1][3]


@pytest.mark.parametrize("where", some(["number", "list", "generation number", "both", "generation list", "--stop"], 3))
def test_stop_tokens(asked, where, tmp_path):
    """An answer ends with the stop token; answers without one continue to the maximum length."""
    stop, other = third(asked), asked.expected[0][5]
    config, generation, options, stops = {
        "number": ({"eos_token_id": stop}, None, [], [stop]),
        "list": ({"eos_token_id": [other, stop]}, None, [], [other, stop]),
        "generation number": ({}, {"eos_token_id": stop}, [], [stop]),
        "generation list": ({}, {"eos_token_id": [stop, other]}, [], [stop, other]),
        "both": ({"eos_token_id": stop}, {"eos_token_id": [other]}, [], [stop, other]),
        "--stop": ({}, None, ["--stop", f"{stop},{other}"], [stop, other]),
    }[where]
    folder = copied(asked, tmp_path / "model", config, generation)
    expected = [cut_behind(answer, stops) for answer in asked.expected]
    assert len(expected[1]) <= 4 and expected != list(asked.expected)
    assert kimi.generate(folder, asked.prompts, NEW, *options) == expected


def test_ignored_stop_tokens(asked, tmp_path):
    folder = copied(asked, tmp_path / "model", {"eos_token_id": third(asked)}, {"eos_token_id": asked.expected[0][0]})
    assert kimi.generate(folder, asked.prompts, NEW, "--ignore-eos") == list(asked.expected)
    only = [cut_behind(answer, [third(asked)]) for answer in asked.expected]
    assert kimi.generate(folder, asked.prompts, NEW, "--ignore-eos", "--stop", third(asked)) == only


# --- Sampling ---------------------------------------------------------------------------------------------------------


def test_seeds(asked):
    draws = [asked.answers("--ignore-eos", "--temperature", 1, "--seed", seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] != list(asked.expected)
    assert all(0 <= token < 101 for draw in draws for answer in draw for token in answer)


@torch.no_grad()
def test_what_is_drawn(asked):
    """First tokens sampled for many equal prompts, against transformers' probabilities (chi-square test)."""
    prompt, temperature, top_k, copies = asked.prompts[1], 0.8, 5, 300
    answers = kimi.generate(asked.folder, [prompt] * copies, 1, "--ignore-eos", "--temperature", temperature,
                            "--top-k", top_k)
    logits = kimi.expected_logits(asked.model, prompt[None])[0, -1] / temperature
    best = logits.topk(top_k)
    expected = best.values.softmax(0) * copies
    counts = torch.tensor([sum(answer == [token] for answer in answers) for token in best.indices.tolist()])
    assert counts.sum() == copies, "a token outside of the most probable ones"
    chi_square = ((counts - expected).square() / expected).sum().item()
    assert chi_square < 20, f"{counts.tolist()} instead of {expected.tolist()}"  # p = 0.0005, 4 DOF


@torch.no_grad()
def test_top_p(asked):
    """Samples come from the smallest set of tokens whose probability reaches top_p, and cover it."""
    prompt, top_p = asked.prompts[2], 0.6
    probabilities, order = kimi.expected_logits(asked.model, prompt[None])[0, -1].softmax(0).sort(descending=True)
    kept = (probabilities.cumsum(0) - probabilities < top_p).sum().item()
    answers = kimi.generate(asked.folder, [prompt] * 400, 1, "--ignore-eos", "--temperature", 1, "--top-p", top_p)
    assert 1 < kept < 15 and {token for (token,) in answers} == set(order[:kept].tolist())


@pytest.mark.parametrize("option, value", some([
    ("--temperature", "-1"), ("--temperature", "nan"), ("--top-p", "0"), ("--top-p", "1.5"), ("--top-k", "-1"),
    ("--max-new-tokens", "-1"), ("--chunk", "0"), ("--stop", "x"), ("--dtype", "int4"), ("--seed", "-1")], 4))
def test_options_out_of_range(asked, option, value):
    done = kimi.klab("generate", "--model", asked.folder, "--tokens", "5,6", option, value)
    assert done.returncode == 2 and option.strip("-").replace("-", "_") in done.stderr.replace("-", "_")

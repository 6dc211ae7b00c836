# SPDX-License-Identifier: Apache-2.0
"""The comparison of sampling speeds, experiments/bench/peers/rollout.py: peers and klab sample from the same model."""

import sys

import pytest
import torch
from safetensors.torch import load_file

import kimi
from conftest import ROOT

sys.path.append(str(ROOT / "experiments" / "bench" / "peers"))
import rollout  # noqa: E402


@pytest.fixture(scope="module", params=rollout.PATTERNS)
def workload(request):
    return rollout.Workload(request.param, width=64, layers=4, prompts=5, samples=3, new_tokens=7)


@pytest.fixture(scope="module")
def folder(workload, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    workload.make_weights(folder)
    return folder


@pytest.fixture
def peer(modeling, workload, folder):
    return rollout.peer_of(workload, folder)


def test_peers_have_klabs_parameters(folder, peer):
    tensors = load_file(folder / "run" / "checkpoint" / "last.safetensors")
    ours = sum(x.numel() for name, x in tensors.items() if name.startswith("model."))
    assert sum(x.numel() for x in peer.model.parameters()) == ours


def test_peers_give_klabs_greedy_answers_to_prompts_of_different_lengths(workload, folder, peer):
    assert len({len(prompt) for prompt in workload.prompts}) == 5
    expected = workload.klab_answers(folder)
    assert len(expected) == 5 and all(len(answer) == rollout.COMPARED for answer in expected)
    rollout.check(peer, expected)


def test_another_model_is_not_timed(workload, folder, peer):
    expected = workload.klab_answers(folder)
    with torch.no_grad():
        peer.model.model.layers[3].self_attn.q_proj.weight.mul_(-3)
    with pytest.raises(SystemExit, match="greedy answer to prompt .* nothing was timed"):
        rollout.check(peer, expected)


def test_every_answer_has_all_tokens(peer):
    answers = peer.sample(7)
    assert answers.shape == (5 * 3, 7) and answers.max() < rollout.VOCABULARY
    assert len({tuple(answer) for answer in answers.tolist()}) > 5, "answers to a prompt are sampled"
    speed, first = peer.speed()
    assert speed > 0 and first > 0


def test_klabs_row(workload, tmp_path):
    row = workload.klab_speed(tmp_path, threads=1, seconds=0.1)
    assert row["width"] == 64
    # Rounded to tokens per second, microseconds and tenths of a percent.
    seconds = 7 * row["ms per token step"] / 1e3
    assert row["rollout tokens/s"] == pytest.approx(5 * 3 * 7 / seconds, rel=0.02)
    assert row["rollout"] + row["reward"] + row["update"] == pytest.approx(1, abs=0.002)
    ours = rollout.row_of(workload.pattern, row, "a", [row["rollout tokens/s"] / 4, 0.25])
    assert ours["ratio"] == 4 and ours["update_tokens_per_second"] == row["update tokens/s"]
    assert list(ours)[:len(rollout.COLUMNS)] == rollout.COLUMNS
    shares = list(ours.values())[len(rollout.COLUMNS) + 5:]
    assert len(shares) == 4 and sum(shares) == pytest.approx(1, abs=0.003)


def test_wrong_arguments_are_usage_errors():
    for arguments, words in [(["gnd"], "unknown mixer 'gnd'"), (["kda", "--samples", "1"], "rl.samples"),
                             (["kda", "--dtype", "float16"], "rl.rollout_dtype"),
                             (["kda", "--training", "kda"], "--training and --rollout cannot be used together")]:
        done = kimi.klab("bench", "--rollout", *arguments)
        assert done.returncode == 2 and words in done.stderr and done.stdout == "", done.stderr

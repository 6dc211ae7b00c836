# SPDX-License-Identifier: Apache-2.0
"""The comparison of training speeds, experiments/bench/peers/language_training.py: peers and klab train the same model."""

import sys

import pytest
import torch
from safetensors.torch import load_file

import kimi  # noqa: F401 (before the folder below, which has another kimi.py)
from conftest import ROOT

sys.path.append(str(ROOT / "experiments" / "bench" / "peers"))
import language_training  # noqa: E402


@pytest.fixture(scope="module")
def workload():
    return language_training.Workload(width=128, layers=4, length=70, sequences=2)


@pytest.fixture(scope="module")
def folder(workload, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    workload.make_weights(folder)
    return folder


@pytest.fixture
def peers(modeling, workload, folder):
    def chunk(q, k, v, g, beta, C):
        return modeling.chunk_kimi_delta_attention(q, k, v, g=g, beta=beta, chunk_size=C)

    return language_training.peers_of(workload, folder, chunk)


def test_peers_compute_klabs_logits(workload, folder, peers):
    expected = workload.klab_loss(folder)
    ours = load_file(folder / "logits.safetensors")["logits"]
    for peer in peers:
        assert peer.loss(workload.compared) == pytest.approx(expected, rel=1e-5), peer.name
        with torch.no_grad():
            torch.testing.assert_close(peer.logits(workload.tokens), ours, rtol=0, atol=1e-4, msg=peer.name)


def test_peers_train_the_same_function(workload, peers):
    """The gradients have the same norm in several steps, whose weights differ."""
    for peer in peers:
        peer.tokens = workload.tokens
    plain, public = ([peer.step() for _ in range(3)] for peer in peers)
    assert plain == pytest.approx(public, rel=1e-3)
    assert len(set(plain)) == 3
    assert sum(x.numel() for x in peers[0].model.parameters()) == sum(x.numel() for x in peers[1].model.parameters())


def test_another_model_is_not_timed(workload, folder, peers):
    expected = workload.klab_loss(folder)
    language_training.check(peers[0], workload.compared, expected)
    with torch.no_grad():
        peers[0].model.layer3.mixer.q_proj.weight.mul_(-3)
    with pytest.raises(SystemExit, match="plain PyTorch: the loss is .* nothing was timed"):
        language_training.check(peers[0], workload.compared, expected)


def test_infinite_gradients_are_not_timed(workload, folder, peers):
    expected = workload.klab_loss(folder)
    peers[0].model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(SystemExit, match="the norm of the gradients is nan"):
        language_training.check(peers[0], workload.compared, expected)


def test_klabs_row(workload, tmp_path):
    row = workload.klab_speed(tmp_path, threads=1, seconds=0.1)
    assert row["width"] == 128 and 0 < row["of product"] < 1
    # Rounded to 10 microseconds and to tokens.
    assert row["tokens/s"] == pytest.approx(140 / (row["ms per step"] / 1e3), rel=0.02)
    rows = language_training.rows_of(128, row, [("a", row["tokens/s"] / 2), ("b", row["tokens/s"] * 4)])
    assert [one["ratio"] for one in rows] == [2, 0.25]
    shares = list(rows[0].values())[len(language_training.COLUMNS):]
    assert len(shares) == 10 and sum(shares) == pytest.approx(1, abs=0.006)
    assert list(rows[0])[:len(language_training.COLUMNS)] == language_training.COLUMNS

# SPDX-License-Identifier: Apache-2.0
"""Event files of `klab train --tensorboard`, read by TensorBoard's reader."""

import csv
import os
import subprocess

import pytest

PROGRAM = os.environ.get("KLAB_PROGRAM", "")
FLAGS = ["--task.length", "16", "--task.vocab", "16", "--model.layers", "1", "--model.width", "16", "--model.heads", "1",
         "--model.head_dim", "16", "--train.batch", "8", "--train.eval_every", "10", "--train.eval_examples", "16",
         "--train.checkpoint_every", "10", "--train.stop_at", "2", "--quiet", "--threads", "1"]


def train(folder, steps, *flags):
    subprocess.run([PROGRAM, "train", *FLAGS, "--train.steps", str(steps), "--out", folder, *flags], check=True,
                   capture_output=True)


def read(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def metrics(folder, split, column):
    with (folder / "metrics.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split]


def expect_same(folder):
    scalars = read(folder)
    for column in "loss", "acc_tok", "acc_seq":
        for split in "train", "validation":
            expected = metrics(folder, split, column)
            actual = scalars[f"{column}/{split}"]
            assert [step for step, _ in actual] == [step for step, _ in expected]
            assert [value for _, value in actual] == pytest.approx([value for _, value in expected], abs=1e-6)
    assert "lr" in scalars and "tokens_per_second" in scalars


def test_reader_sees_what_metrics_csv_says(tmp_path):
    train(tmp_path / "run", 40, "--tensorboard")
    expect_same(tmp_path / "run")


def test_a_resumed_run_goes_on(tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen([PROGRAM, "train", *FLAGS, "--train.steps", "4000", "--out", run, "--tensorboard"])
    while not (run / "checkpoint" / "last.safetensors").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    subprocess.run([PROGRAM, "resume", run, "--tensorboard", "--quiet"], check=True, capture_output=True)
    assert len(list((run / "tensorboard").iterdir())) == 2
    expect_same(run)


def test_without_the_flag_there_is_none(tmp_path):
    train(tmp_path / "run", 10)
    assert not (tmp_path / "run" / "tensorboard").exists()

# SPDX-License-Identifier: Apache-2.0
"""klab train on two processes under every launcher: torchrun, mpirun and srun give what one process gives, to the bit."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench" / "parallel"))
import networks  # noqa: E402
from test_slurm import PROGRAM, slurm  # noqa: F401  (a fixture)

RUN = ["--task.name", "palindrome", "--task.length", "9", "--model.pattern", "kda,mla", "--model.width", "16",
       "--model.heads", "2", "--model.head_dim", "8", "--train.steps", "20", "--train.eval_every", "10",
       "--train.batch", "8", "--train.accumulate", "2", "--train.eval_examples", "32", "--threads", "1"]


def train(folder, launcher=(), options=(), environment=None):
    command = [*launcher, PROGRAM, "train", *RUN, "--out", str(folder), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done after 20 steps") == 1, done.stdout
    return load_file(folder / "checkpoint" / "last.safetensors")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return train(tmp_path_factory.mktemp("one") / "run")


def expect_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []


def test_processes(one_process, tmp_path):
    expect_same(train(tmp_path / "run", options=["--processes", "2"]), one_process)


def test_torchrun(one_process, tmp_path):
    torchrun = pathlib.Path(sys.executable).with_name("torchrun")
    launcher = [torchrun, "--no-python", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", "127.0.0.1:0"]
    expect_same(train(tmp_path / "run", launcher, ["--zero"]), one_process)


def test_mpirun(one_process, tmp_path):
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun (Debian: openmpi-bin)")
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    expect_same(train(tmp_path / "run", ["mpirun", "-n", "2"], environment=environment), one_process)


def test_srun(slurm, one_process, tmp_path):  # noqa: F811
    expect_same(train(tmp_path / "run", ["srun", "-n", "2"], environment=slurm), one_process)


def test_a_network_that_loses_packets(one_process, tmp_path):
    """Two hosts whose link loses one packet of fifty in each direction, and is slow."""
    if networks.missing():
        pytest.skip(f"there is no {networks.missing()}")
    with networks.two_hosts(megabits=100, loss_percent=2) as hosts:
        done = hosts.run([PROGRAM, "train", *RUN, "--out", tmp_path / "run"])
        assert done.count("done after 20 steps") == 1
        expect_same(load_file(tmp_path / "run" / "checkpoint" / "last.safetensors"), one_process)
        dropped = subprocess.run(["ip", "netns", "exec", hosts.names[0], "nft", "list", "ruleset"], check=True, capture_output=True, text=True)
    assert "drop" in dropped.stdout


def test_a_host_that_cannot_be_reached_any_more_is_named(tmp_path):
    if networks.missing():
        pytest.skip(f"there is no {networks.missing()}")
    run = [PROGRAM, "train", *RUN, "--rank-limit", "5", "--out", tmp_path / "run"]
    run[run.index("--train.steps") + 1] = "1000000"
    with networks.two_hosts() as hosts:
        ranks = [hosts.start(run, rank, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in range(2)]
        try:
            wait_for_steps(tmp_path / "run" / "record.json")
            networks.call("ip", "-n", hosts.names[1], "link", "set", networks.LINK, "down")
            errors = [rank.communicate(timeout=120)[1] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    assert [rank.returncode for rank in ranks] == [1, 1], errors
    assert "rank 1" in errors[0] and "cannot be reached" in errors[1], errors


def wait_for_steps(record, seconds=60):
    end = time.monotonic() + seconds
    while not (record.exists() and json.loads(record.read_text())["step"] > 0):
        assert time.monotonic() < end, f"no step in {record}"
        time.sleep(0.1)

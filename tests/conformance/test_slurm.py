# SPDX-License-Identifier: Apache-2.0
"""klab sweep on a real Slurm cluster: one controller and one node, started on this machine (Debian: slurm-wlm)."""

import csv
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

PROGRAM = os.environ.get("KLAB_PROGRAM", "")
SBIN = "/usr/sbin:/sbin"  # often missing from a user's PATH

CONFIG = """ClusterName=klab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

SWEEP = """base:
  task: {name: mqar, length: 16, vocab: 16}
  model: {layers: 1, width: 16, heads: 1, head_dim: 16}
  train: {batch: 8, steps: %d, eval_every: 10, eval_examples: 16, checkpoint_every: 10}
grid:
  model.pattern: [kda, gdn]
  train.lr: [1e-3, 1e-2]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, give_up=pytest.fail, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            give_up(f"{what}: not within {seconds} s")
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Starts the cluster; gives the environment variables with which Slurm's commands find it."""
    path = os.environ["PATH"] + ":" + SBIN
    for program in "slurmctld", "slurmd", "sbatch", "sinfo":
        if shutil.which(program, path=path) is None:
            pytest.skip(f"there is no {program} (Debian: slurm-wlm)")
    if os.geteuid() != 0:
        pytest.skip("slurmd runs as root only")
    folder = tmp_path_factory.mktemp("slurm")
    for part in "state", "spool":
        (folder / part).mkdir()
    host = socket.gethostname().split(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, user=getpass.getuser(), folder=folder, controller_port=free_port(),
                                    node_port=free_port()))
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(config)}
    daemons = []
    try:
        for daemon in "slurmctld", "slurmd":
            log = (folder / f"{daemon}.log").open("w")
            daemons.append(subprocess.Popen([daemon, "-D", "-f", config], env=environment, stdout=log, stderr=log))
        def idle():
            for daemon in daemons:
                if daemon.poll() is not None:
                    log = (folder / f"{daemon.args[0]}.log").read_text()
                    pytest.skip(f"{daemon.args[0]} does not run on this machine: {log[-500:]}")
            answer = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False)
            return answer.stdout.strip() == "idle"
        wait_for("an idle Slurm node on this machine", idle, pytest.skip)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=20)


def sweep_command(folder, steps, *options):
    file = folder / f"steps_{steps}.yaml"
    file.write_text(SWEEP % steps)
    return [PROGRAM, "sweep", str(file), "--threads", "1", *options]


def rows(path):
    with pathlib.Path(path).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def scores(path):
    return [{key: row[key] for key in ("run", "state", "step", "loss", "acc_tok", "acc_seq")} for row in rows(path)]


def test_slurm_gives_what_local_processes_do(slurm, tmp_path):
    command = sweep_command(tmp_path, 40)
    subprocess.run([*command, "--out", tmp_path / "local"], check=True, capture_output=True)
    done = subprocess.run([*command, "--out", tmp_path / "slurm", "--launcher", "slurm"], env=slurm, check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "slurm" / "results.csv") == scores(tmp_path / "local" / "results.csv")
    tasks = list((tmp_path / "slurm").glob("slurm-*_*.out"))
    assert len(tasks) == 4, tasks  # a job array: a task per run


def test_an_interrupted_array_is_cancelled_and_continued(slurm, tmp_path):
    command = sweep_command(tmp_path, 3000)
    launched = [*command, "--out", tmp_path / "slurm", "--launcher", "slurm"]
    process = subprocess.Popen(launched, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for("a run has a checkpoint", lambda: list((tmp_path / "slurm").glob("*/checkpoint/last.safetensors")))
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    left = subprocess.run(["squeue", "-h"], env=slurm, capture_output=True, text=True, check=True)
    assert left.stdout.strip() == ""
    subprocess.run(launched, env=slurm, check=True, capture_output=True)
    subprocess.run([*command, "--out", tmp_path / "local"], check=True, capture_output=True)
    assert scores(tmp_path / "slurm" / "results.csv") == scores(tmp_path / "local" / "results.csv")


def test_what_sbatch_refuses_is_said_in_its_words(slurm, tmp_path):
    command = sweep_command(tmp_path, 10, "--launcher", "slurm", "--slurm", "--partition=nowhere")
    done = subprocess.run([*command, "--out", tmp_path / "slurm"], env=slurm, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "invalid partition" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Signals at any moment, a clock that jumps, full and read-only folders, slow disks."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import harness
import pytest
from cases import Prepared, train

pytestmark = harness.needs_shim

# A call in each phase of a run: its folder is made, curves begin, a checkpoint is written and renamed, the end.
PHASES = [("mkdir", 0.0), ("open", 0.2), ("write", 0.5), ("rename", 0.6), ("open", 1.0)]
SLOW_PHASES = [(kind, share / 10) for kind in ("open", "write", "sync", "rename") for share in range(11)]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Prepared("train", tmp_path_factory.mktemp("train"))


def number_at(case, kind, share):
    return 1 + round(share * (case.calls[kind] - 1))


def expect_interrupted(case, kind, share, word):
    number = getattr(signal, word)
    done, _ = case.with_fault(f"{kind}:{number_at(case, kind, share)}:{word}")
    harness.expect_complete(case.work)
    assert done.returncode in (0, 128 + number), done.stderr  # 0: all steps were done
    assert done.returncode == 0 or "interrupted" in done.stderr
    case.expect_whole()


@pytest.mark.parametrize("kind,share", PHASES)
def test_sigterm_in_each_phase(case, kind, share):
    expect_interrupted(case, kind, share, "SIGTERM")


@pytest.mark.slow
@pytest.mark.parametrize("kind,share", SLOW_PHASES)
def test_signals_anywhere(case, kind, share):
    for word in "SIGTERM", "SIGINT":
        expect_interrupted(case, kind, share, word)


def test_sigterm_before_the_start(case):
    folder = case.fresh()
    process = harness.start(train(folder), harness.environment(folder))
    process.terminate()
    _, err = process.communicate(timeout=harness.LIMIT_SECONDS)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), err
    harness.expect_complete(folder)


def test_stopped_and_continued(case):
    folder = case.fresh()
    number = number_at(case, "write", 0.5)
    process = harness.start(train(folder), harness.environment(folder, f"write:{number}:SIGSTOP"))
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    time.sleep(0.3)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=harness.LIMIT_SECONDS)
    assert process.returncode == 0, err
    assert case.case.result(folder) == case.expected


def seconds_of(run):
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines() if not line.startswith("#")]
    at = rows[0].index("seconds")
    return [float(row[at]) for row in rows[1:]]


def test_times_do_not_follow_the_wall_clock(case):
    folder, begin = case.fresh(), time.monotonic()
    harness.succeed(train(folder) + ["--tensorboard"], folder, clock=-(10**6))  # and back, in turn
    limit = time.monotonic() - begin
    assert case.case.result(folder) == case.expected
    seconds = seconds_of(folder / "run")
    assert seconds == sorted(seconds) and 0 <= seconds[0] and seconds[-1] <= limit
    assert 0 <= json.loads((folder / "run/record.json").read_text())["seconds"] <= limit


def test_training_needs_no_temporary_folder(case):
    """A full one: whatever is written there fails."""
    folder, full = case.fresh(), case.base / "full"
    full.mkdir()
    variables = harness.environment(full, "open:1+:ENOSPC,write:1+:ENOSPC,mkdir:1+:ENOSPC") | {"TMPDIR": str(full)}
    process = harness.start(train(folder), variables)
    _, err = process.communicate(timeout=harness.LIMIT_SECONDS)
    assert process.returncode == 0, err
    assert case.case.result(folder) == case.expected


@pytest.mark.slow
def test_verify_names_a_full_temporary_folder(tmp_path):
    case, full = Prepared("study", tmp_path), tmp_path / "full"
    full.mkdir()
    variables = harness.environment(full, "mkdir:1:ENOSPC") | {"TMPDIR": str(full)}
    process = harness.start(["verify", case.work / "out"], variables)
    _, err = process.communicate(timeout=harness.LIMIT_SECONDS)
    assert process.returncode == 1
    assert str(full / "klab-verify-") in err and harness.REASONS["ENOSPC"] in err


def mounted_read_only(folder):
    """Words before a command that make the folder read-only for it, also for root; None where that is not permitted."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        return None
    return words


def test_a_read_only_folder(case):
    folder = case.fresh()
    words = mounted_read_only(folder)
    if words is None:
        done = harness.klab(train(folder), folder, "open:1+:EROFS,mkdir:1+:EROFS,rename:1+:EROFS")
    else:
        command = [*words, harness.PROGRAM, *map(str, train(folder))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=harness.LIMIT_SECONDS)
    assert done.returncode == 1
    harness.expect_named(done.stderr, folder, "EROFS")
    assert list(pathlib.Path(folder).iterdir()) == []


def test_slow_renames(case):
    done, _ = case.with_fault("rename:1+:SLEEP200")
    assert done.returncode == 0, done.stderr
    assert case.case.result(case.work) == case.expected


@pytest.mark.slow
def test_a_sweep_with_slow_renames(tmp_path):
    case = Prepared("sweep", tmp_path)
    done, _ = case.with_fault("rename:1+:SLEEP200")
    assert done.returncode == 0, done.stderr
    assert case.case.result(case.work) == case.expected

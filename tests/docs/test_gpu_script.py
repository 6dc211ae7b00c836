# SPDX-License-Identifier: Apache-2.0
"""A dry run of the GPU script against the emulation of a device, with faulty steps: the others still report."""

import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest

COMMANDS = os.environ.get("KLAB_COMPILE_COMMANDS", "")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "experiments" / "bench" / "gpu" / "run"

needs_build = pytest.mark.skipif(not COMMANDS, reason="KLAB_COMPILE_COMMANDS names no build")


def run(out, *options):
    return subprocess.run([sys.executable, SCRIPT, "--emulate", pathlib.Path(COMMANDS).parent, "--out", out, *options],
                          capture_output=True, text=True, check=False)


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@needs_build
def test_faulty_steps_do_not_stop_the_others(tmp_path):
    done = run(tmp_path, "--skip", "figure2,long,check_bfloat16", "--fault", "headline=hang", "--fault", "decode=exit",
               "--fault", "backward=signal")
    assert done.returncode == 1
    report = (tmp_path / "run.txt").read_text()
    outcomes = dict(re.findall(r"^(\w+): (.*), \d+ s$", report, re.MULTILINE))
    assert outcomes == {"check_plans": "done", "ceilings": "done", "headline": "FAILED: stopped after 5 s", "peers": "done",
                        "backward": "FAILED: signal 11", "decode": "FAILED: exit code 3, see decode.log", "check_float32": "done"}
    assert report == done.stdout
    plans = {row["plan"] for row in rows(tmp_path / "check_plans.csv")}
    assert plans == {f"portable, {c}, {p}" for c in ("1 consumer", "2 consumers", "4 consumers") for p in ("1 part", "2 parts", "3 parts")
                     } | {f"hopper, 4 consumers, {p}" for p in ("1 part", "2 parts", "3 parts")}
    # No GPU here: flash-linear-attention is missing or cannot run, and klab's times are there all the same.
    peers = rows(tmp_path / "peers.csv")
    assert len(peers) == 6 and all(row["graph_ms"] and row["eager_ms"] and row["peer"].startswith("fla") for row in peers)
    assert (tmp_path / "clocks.csv").read_text().count("\n") == 1 + 2 * len(outcomes)


@needs_build
def test_a_run_without_time_says_what_it_left_out(tmp_path):
    done = run(tmp_path, "--minutes", "0.01")
    assert done.returncode == 1
    assert "check_plans: not run, out of time" in done.stdout


def test_unknown_steps_are_refused(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--prebuild" in done.stdout
    if COMMANDS:
        refused = run(tmp_path, "--only", "nonsense")
        assert refused.returncode == 2 and "nonsense is none of check_plans" in refused.stderr

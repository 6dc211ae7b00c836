# SPDX-License-Identifier: Apache-2.0
"""A dry run of the GPU script against the emulation of a device, with faulty steps: the others still report."""

import csv
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
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


@pytest.mark.slow
@needs_build
def test_faulty_steps_do_not_stop_the_others(tmp_path):
    done = run(tmp_path, "--skip", "figure2,long,check_bfloat16", "--fault", "headline=hang", "--fault", "decode=exit",
               "--fault", "backward=signal")
    assert done.returncode == 1
    report = (tmp_path / "run.txt").read_text()
    outcomes = dict(re.findall(r"^(\w+): (.*), \d+ s$", report, re.MULTILINE))
    # It runs beside the checks; flash-linear-attention fails where there is no GPU, which the exit codes of its processes tell.
    assert outcomes.pop("compile_peers") in ("done", "FAILED: exit code 1, see compile_peers.log")
    assert report.index("compile_peers") < report.index("ceilings")
    assert outcomes == {"check_wgmma": "done", "check_plans": "done", "ceilings": "done", "headline": "FAILED: stopped after 5 s",
                        "peers": "done", "backward": "FAILED: signal 11", "decode": "FAILED: exit code 3, see decode.log",
                        "check_float32": "done", "kernels": "done"}
    assert report == done.stdout
    assert report.index("check_wgmma") < report.index("check_plans")
    assert {row["verdict"] for row in rows(tmp_path / "check_wgmma.csv")} == {"ok"}
    plans = {row["plan"] for row in rows(tmp_path / "check_plans.csv")}
    assert plans == {f"portable, {c}, {p}" for c in ("1 consumer", "2 consumers", "4 consumers") for p in ("1 part", "2 parts", "3 parts")
                     } | {f"hopper, 4 consumers, {p}" for p in ("1 part", "2 parts", "3 parts")}
    # No GPU here: flash-linear-attention is missing or cannot run, and klab's times are there all the same.
    peers = rows(tmp_path / "peers.csv")
    assert len(peers) == 6 and all(row["graph_ms"] and row["eager_ms"] and row["peer"].startswith("fla") for row in peers)
    assert (tmp_path / "clocks.csv").read_text().count("\n") == 1 + 2 * (len(outcomes) + 1)


@needs_build
def test_a_run_without_time_says_what_it_left_out(tmp_path):
    done = run(tmp_path, "--minutes", "0.01")
    assert done.returncode == 1
    assert "check_wgmma: not run, out of time" in done.stdout


@needs_build
def test_racecheck_counts_only_if_it_passes_its_control(tmp_path):
    """A sanitizer that reports a race in the correct use of named barriers can say nothing about the kernels."""
    sanitizer, folders = tmp_path / "compute-sanitizer", os.environ["PATH"]
    outcomes = []
    for verdict in ('case "$*" in *--barriers*) exit 1;; esac', 'case "$*" in *--plans*racecheck*|*racecheck*--plans*) exit 1;; esac'):
        sanitizer.write_text(f"#!/bin/sh\n{verdict}\n")
        sanitizer.chmod(0o755)
        done = subprocess.run([sys.executable, SCRIPT, "--emulate", pathlib.Path(COMMANDS).parent, "--out", tmp_path / "out", "--only",
                               "memcheck,racecheck"], capture_output=True, text=True, check=False,
                              env={**os.environ, "PATH": os.pathsep.join([str(tmp_path), folders])})
        outcomes.append((done.returncode, re.findall(r"^racecheck: (\w+ ?\w*)", done.stdout, re.MULTILINE)))
    assert outcomes == [(0, ["left out"]), (1, ["FAILED"])]


@needs_build
def test_the_control_of_race_detectors_hands_over_every_number():
    program = pathlib.Path(COMMANDS).parent / "tests" / "support" / "gpu_check_emulated"
    done = subprocess.run([program, "--barriers"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("named,8,ok\n")


def check_wgmma(*options):
    """The exit code and rows of the check of wgmma, on the emulation."""
    program = pathlib.Path(COMMANDS).parent / "tests" / "support" / "gpu_check_emulated"
    done = subprocess.run([program, "--wgmma", *options], capture_output=True, text=True, check=False)
    return done.returncode, list(csv.DictReader(done.stdout.splitlines()))


@needs_build
def test_a_wrong_descriptor_fails_the_check_of_wgmma():
    code, products = check_wgmma()
    assert code == 0 and {row["verdict"] for row in products} == {"ok"}
    formats = {(row["instruction"], row["orientation"], row["pitch"]) for row in products}
    assert formats == {(f"wgmma.m64n{columns}k16.f32.{dtype}.{dtype}", orientation, pitch) for dtype in ("bf16", "f16")
                       for columns, orientation, pitch in ((16, "K-major", "128"), (16, "K-major", "144"), (32, "K-major", "144"),
                                                           (64, "MN-major", "144"), (128, "MN-major", "144"))}
    code, wrong = check_wgmma("--fault", "pitch")
    assert code == 1 and {row["verdict"] for row in wrong} == {"FAIL"} and len(wrong) == len(products)
    # Column 8 is the first of the second core matrix: its place is padding when the pitch is too small.
    across = next(row for row in wrong if row["orientation"] == "MN-major" and row["values"] == "columns")
    assert (across["row"], across["column"], across["got"], across["expected"]) == ("0", "8", "-1", "8")


@needs_build
def test_a_device_without_wgmma_skips_its_check():
    code, skipped = check_wgmma("--fault", "device")
    assert code == 0 and [row["verdict"] for row in skipped] == ["skipped"]


def git(folder, *words):
    identity = ["-c", "user.name=klab", "-c", "user.email=klab@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True).stdout.strip()


def copy_of_script(folder):
    """A tree with no more than the script and what names its commit."""
    (folder / "experiments" / "bench" / "gpu").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "experiments" / "bench" / "gpu" / "run")
    for name in (".gitattributes", ".git_archival.txt", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def report_of(folder, **environment):
    """The first lines of a report of the script in `folder`, of a run that has no time for any step."""
    program = folder / "build" / "tests" / "support" / "gpu_check_emulated"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch()
    environment = {name: value for name, value in os.environ.items() if name != "KLAB_COMMIT"} | environment
    done = subprocess.run([sys.executable, folder / "experiments" / "bench" / "gpu" / "run", "--emulate", folder / "build",
                           "--minutes", "0.01", "--out", folder / "out"], capture_output=True, text=True, check=False, env=environment)
    assert "check_wgmma: not run" in done.stdout, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_known_with_and_without_a_repository(tmp_path):
    repository = copy_of_script(tmp_path / "repository")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "one")
    head = git(repository, "rev-parse", "HEAD")
    assert report_of(repository, KLAB_COMMIT="other")[0] == f"klab commit {head}"
    (repository / ".gitignore").write_text("changed")
    assert report_of(repository)[0] == f"klab commit {head}-dirty"

    # Inside another repository, whose commit it must not take.
    archive = repository / "archive"
    archive.mkdir()
    (tmp_path / "archive.tar").write_bytes(subprocess.run(["git", "-C", repository, "archive", "HEAD"], capture_output=True,
                                                          check=True).stdout)
    shutil.unpack_archive(tmp_path / "archive.tar", archive)
    assert report_of(archive, KLAB_COMMIT="other")[0] == f"klab commit {head}"
    for prebuilt, expected in (("prebuilt", "prebuilt"), ("unknown", head)):
        (archive / "build-gpu").mkdir(exist_ok=True)
        (archive / "build-gpu" / "commit.txt").write_text(prebuilt + "\n")
        assert report_of(archive)[0] == f"klab commit {expected}"


def test_an_unknown_commit_is_said(tmp_path):
    tree = copy_of_script(tmp_path / "tree")
    assert report_of(tree, KLAB_COMMIT="given")[0] == "klab commit given"
    report = report_of(tree)
    assert report[0] == "klab commit unknown"
    assert [line for line in report if line.startswith("WARNING")] == [report[3]] and "KLAB_COMMIT" in report[3]


def test_kernels_of_another_commit_are_said(tmp_path, monkeypatch):
    tree = copy_of_script(tmp_path / "tree")
    path = str(tree / "experiments" / "bench" / "gpu" / "run")
    spec = importlib.util.spec_from_loader("run", importlib.machinery.SourceFileLoader("run", path))
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tree / "build-gpu").mkdir()
    (tree / "build-gpu" / "commit.txt").write_text("old\n")
    assert list(script.warnings(emulate=False)) == []
    monkeypatch.setattr(script, "commit_by_git", lambda: "new")
    assert [warning for warning in script.warnings(emulate=False) if "built from old" in warning]
    assert list(script.warnings(emulate=True)) == []


def test_unknown_steps_are_refused(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--prebuild" in done.stdout
    if COMMANDS:
        refused = run(tmp_path, "--only", "nonsense")
        assert refused.returncode == 2 and "nonsense is none of check_wgmma" in refused.stderr

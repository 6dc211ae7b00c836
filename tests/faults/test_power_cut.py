# SPDX-License-Identifier: Apache-2.0
"""The power fails after any change of a run's folder. What was synced is there, no complete checkpoint is lost, and the run
goes on to the same bits, whether or not renames reached the disk."""

import pathlib
import shutil

import harness
import pytest
import replay
from cases import CASES, Prepared

pytestmark = harness.needs_shim

SAMPLES = 2  # of an ordinary test, of each variant
# Replaced without a sync, for they can be made again: the record of a run that goes on, the picture of its curves.
UNSYNCED = ("record.json", "plot.png")


def last_step(disk, path):
    """The step of the checkpoint that is promised to be on the disk, or 0."""
    file = disk.durable.get(path)
    return harness.checkpoint(file.synced).step if file else 0


def cuts(journal, case, keep_names):
    """The different contents of the folder after a cut, each with the step of the checkpoint that it must have."""
    disk, seen = replay.Disk(case.fresh()), set()
    last = str(case.work / "run/checkpoint/last.safetensors")
    for operation in journal:
        disk.apply(operation)
        names = disk.after_cut(keep_names)
        step = last_step(disk, last)
        state = step, frozenset(names.items())
        if operation.name in ("sync", "rename", "mkdir") and state not in seen:
            seen.add(state)
            yield names, step


def expect_continued(case, names, step):
    shutil.rmtree(case.work)
    case.work.mkdir()
    replay.write(names)
    harness.expect_complete(case.work, unsynced=UNSYNCED)
    last = case.work / "run/checkpoint/last.safetensors"
    if step > 0:
        assert (case.work / "run/config.yaml").exists(), f"the run of the checkpoint of step {step} is lost"
        assert harness.checkpoint(last.read_bytes()).step >= step
    case.expect_whole()


@pytest.fixture(scope="module", params=["train", "rl", *(pytest.param(name, marks=pytest.mark.slow)
                                                                 for name in ("resume", "shards"))])
def recorded(request, tmp_path_factory):
    """A command with the journal of its undisturbed run."""
    folder = tmp_path_factory.mktemp(request.param)
    case = Prepared(request.param, folder)
    harness.succeed(CASES[request.param].command(case.fresh()), case.work, journal=folder / "journal")
    return case, replay.read_journal(folder / "journal")


@pytest.mark.parametrize("keep_names", [True, False], ids=["renames_kept", "renames_undone"])
def test_some_cuts(recorded, keep_names):
    case, journal = recorded
    all_cuts = list(cuts(journal, case, keep_names))
    for names, step in all_cuts[::-(len(all_cuts) // SAMPLES)][:SAMPLES]:
        expect_continued(case, names, step)


@pytest.mark.slow
@pytest.mark.parametrize("keep_names", [True, False], ids=["renames_kept", "renames_undone"])
def test_every_cut(recorded, keep_names):
    case, journal = recorded
    for names, step in cuts(journal, case, keep_names):
        expect_continued(case, names, step)


def test_what_is_lost(tmp_path):
    """The replay itself: a file that was renamed after its sync, in a folder that was never synced."""
    folder, new, old = tmp_path / "f", str(tmp_path / "f/new"), str(tmp_path / "f/old")
    disk = replay.Disk()

    def do(name, path, offset=0, data=b""):
        disk.apply(replay.Operation(name, offset, str(path), data))

    do("mkdir", folder)
    do("create", old)
    do("write", old, 0, b"abc")
    do("sync", old)
    do("write", old, 3, b"def")
    do("rename", old, data=new.encode())
    assert disk.after_cut(keep_names=True) == {str(folder): None, new: b"abc"}
    assert disk.after_cut(keep_names=False) == {}
    do("sync", tmp_path)
    assert disk.after_cut(keep_names=False) == {str(folder): None}
    do("sync", folder)
    assert disk.after_cut(keep_names=False) == {str(folder): None, new: b"abc"}
    do("sync", new)
    do("unlink", new)
    assert disk.after_cut(keep_names=True) == {str(folder): None}
    assert disk.after_cut(keep_names=False) == {str(folder): None, new: b"abcdef"}
    replay.write(disk.after_cut(keep_names=False))
    assert pathlib.Path(new).read_bytes() == b"abcdef"

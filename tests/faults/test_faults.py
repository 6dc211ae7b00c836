# SPDX-License-Identifier: Apache-2.0
"""Every call on a file or process fails once. The command ends with a message that names the file and the reason, no file is
half-written under its final name, and the command once repeated or continued gives what it gives undisturbed.

    KLAB_PROGRAM=build/bin/klab KLAB_FAULT_LIBRARY=build/tests/support/libklab_faults.so python -m pytest tests/faults
    ... --slow    # many calls of each kind instead of one
"""

import os

import harness
import pytest
from cases import CASES, Prepared

pytestmark = harness.needs_shim

# What can happen to a call of each kind. Signals interrupt no call of the other kinds.
ERRORS = {"open": ("EMFILE", "ENOSPC", "EINTR"), "read": ("EIO", "EINTR"), "write": ("ENOSPC", "EIO", "EINTR", "SHORT"),
          "sync": ("EIO", "EINTR"), "rename": ("EIO",), "mmap": ("ENOMEM",), "spawn": ("EAGAIN",), "mkdir": ("ENOSPC",),
          "unlink": ("EIO",), "truncate": ("EIO",)}
HARMLESS = ("EINTR", "SHORT")
# Of an ordinary test: which errors a command meets, each at one call.
SAMPLES = {
    "train": [(kind, errors[0]) for kind, errors in ERRORS.items() if kind not in ("mmap", "truncate")],
    "resume": [("read", "EIO"), ("mmap", "ENOMEM")],
    "rl": [("write", "ENOSPC"), ("rename", "EIO")],
    "export": [("write", "ENOSPC"), ("sync", "EIO")],
    "sweep": [("write", "ENOSPC")],
}
# --slow goes through so many calls of a kind, spread over the run; KLAB_FAULT_MOST=1000: through all, for an hour or more.
MOST_OF_A_KIND = int(os.environ.get("KLAB_FAULT_MOST", "25"))
MOST_OF_SEVERAL_RUNS = max(1, MOST_OF_A_KIND // 8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Gives a command's Prepared; it is made when first asked for."""
    made = {}

    def give(name):
        if name not in made:
            made[name] = Prepared(name, tmp_path_factory.mktemp(name))
        return made[name]

    return give


def spread(calls, most):
    return range(1, calls + 1, max(1, -(-calls // most)))


def expect_survived(case, kind, number, error):
    done, reached = case.with_fault(f"{kind}:{number}:{error}")
    where = f"{kind} {number}: {error}\n{done.stderr}"
    harness.expect_complete(case.work)
    # Temporary files may stay, and a sweep starts workers again.
    ends = reached and error not in HARMLESS and kind != "unlink"
    assert done.returncode == 0 if not ends else done.returncode == 1 or case.case.goes_on and done.returncode == 0, where
    if done.returncode == 1:
        harness.expect_named(done.stderr, case.work, error)
        case.expect_whole()
    else:
        assert case.case.result(case.work) == case.expected, where


@pytest.mark.parametrize("name,kind,error", [(name, *fault) for name, faults in SAMPLES.items() for fault in faults])
def test_one_call_fails(prepared, name, kind, error):
    case = prepared(name)
    sample = sum(map(ord, name + kind + error))  # spreads over the run
    assert case.calls[kind] > 0
    expect_survived(case, kind, 1 + sample % case.calls[kind], error)


def test_interrupted_calls_are_repeated(prepared):
    case = prepared("train")
    faults = [f"{kind}:{number}:{error}" for kind, errors in ERRORS.items() for error in errors if error in HARMLESS
              for number in range(2, case.calls[kind], 3)]
    done = harness.klab(case.case.command(case.fresh()), case.work, ",".join(faults))
    assert done.returncode == 0, done.stderr
    assert case.case.result(case.work) == case.expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", CASES)
def test_many_calls_fail(prepared, name, kind):
    case = prepared(name)
    most = MOST_OF_SEVERAL_RUNS if case.case.goes_on else MOST_OF_A_KIND
    for i, number in enumerate(spread(case.calls[kind], most)):
        expect_survived(case, kind, number, ERRORS[kind][i % len(ERRORS[kind])])


def test_a_disk_that_stays_full(prepared):
    case = prepared("train")
    done, _ = case.with_fault(f"write:{case.calls['write'] // 2}+:ENOSPC")
    assert done.returncode == 1
    harness.expect_named(done.stderr, case.work, "ENOSPC")
    harness.expect_complete(case.work)
    case.expect_whole()


def kills(case, kind, numbers):
    for number in numbers:
        done, reached = case.with_fault(f"{kind}:{number}:SIGKILL")
        assert reached and done.returncode == -9, done.stderr
        harness.expect_complete(case.work)
        case.expect_whole()


def test_killed_at_a_rename(prepared):
    case = prepared("rl")
    kills(case, "rename", [case.calls["rename"] // 2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open", "write", "sync", "rename", "mkdir"])
@pytest.mark.parametrize("name", ["train", "resume", "rl", "shards"])
def test_killed_at_many_calls(prepared, name, kind):
    case = prepared(name)
    kills(case, kind, spread(case.calls[kind], MOST_OF_A_KIND))

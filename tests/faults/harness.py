# SPDX-License-Identifier: Apache-2.0
"""Runs klab with faults of system calls (shim/faults.h), and reads what is in its folders."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import typing

import pytest

PROGRAM = os.environ.get("KLAB_PROGRAM", "")
SHIM = os.environ.get("KLAB_FAULT_LIBRARY", "")
KINDS = ("open", "read", "write", "sync", "rename", "mmap", "spawn", "truncate", "mkdir", "unlink")
REASONS = {name: os.strerror(getattr(errno, name)) for name in ("ENOSPC", "EIO", "EMFILE", "ENOMEM", "EAGAIN", "EROFS")}
TIMED = ("tokens_per_second", "rollout_tokens_per_second", "update_tokens_per_second", "wait_share", "rollout_share",
         "reward_share", "update_share", "seconds")
LIMIT_SECONDS = 60

needs_shim = pytest.mark.skipif(not (PROGRAM and os.path.exists(SHIM)),
                                reason="KLAB_PROGRAM is not set, or KLAB_FAULT_LIBRARY is no file (none with sanitizers)")

TASK = ("--task.name", "mqar", "--task.length", "16", "--task.vocab", "16")
MODEL = ("--model.layers", "1", "--model.width", "8", "--model.heads", "1", "--model.head_dim", "8")
TRAIN = ("--train.batch", "4", "--train.steps", "4", "--train.eval_every", "2", "--train.eval_examples", "4",
         "--train.checkpoint_every", "1", "--train.stop_at", "2")


def environment(folder, fault="", **more):
    """Variables of the shim: `counts`, `journal` and `clock` beside the fault."""
    given = {"LD_PRELOAD": SHIM, "KLAB_FAULT_UNDER": str(folder.resolve()), "KLAB_FAULT": fault}
    given |= {f"KLAB_FAULT_{name.upper()}": str(value) for name, value in more.items()}
    return {**os.environ, "OMP_WAIT_POLICY": "passive", **given}


def start(words, env):
    return subprocess.Popen([PROGRAM, *map(str, words)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def klab(words, folder, fault="", **more):
    """Runs `klab words...` to its end."""
    return subprocess.run([PROGRAM, *map(str, words)], env=environment(folder, fault, **more), capture_output=True,
                          text=True, check=False, timeout=LIMIT_SECONDS)


def succeed(words, folder, fault="", **more):
    done = klab(words, folder, fault, **more)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done


def counts_of(path):
    """The calls of each kind in a file of KLAB_FAULT_COUNTS."""
    return dict(zip(KINDS, struct.unpack(f"<{len(KINDS)}Q", path.read_bytes())))


def train(out, *more):
    return ["train", "--quiet", "--threads", "1", "--out", out, *TASK, *MODEL, *TRAIN, *more]


def resume(run):
    return ["resume", run, "--quiet"]


class Broken(AssertionError):
    """A file that is not complete."""


class Checkpoint(typing.NamedTuple):
    step: int
    digest: str  # of its tensors
    shards: tuple  # names of the files with more


def checkpoint(content, name=""):
    """A safetensors file, which must be complete."""
    if len(content) < 8:
        raise Broken(f"{name}: {len(content)} bytes")
    length = struct.unpack("<Q", content[:8])[0]
    try:
        header = json.loads(content[8:8 + length])
    except ValueError as error:
        raise Broken(f"{name}: {error}") from error
    metadata = header.pop("__metadata__", {})
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if len(content) != 8 + length + end:
        raise Broken(f"{name}: {len(content)} bytes, not {8 + length + end}")
    if metadata.get("klab.checksum") == "0" * 16:
        raise Broken(f"{name}: without its checksum")
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + content[8 + length:]).hexdigest()
    return Checkpoint(int(metadata.get("step", -1)), digest, tuple(json.loads(metadata.get("klab.shards", "[]"))))


def table(text, name="", torn=False):
    """The rows of a CSV file as maps, without columns of times; `torn`: its last row may be incomplete."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    if torn and lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = list(csv.reader(io.StringIO("".join(lines))))
    if not rows or not text.endswith("\n") and not torn or any(len(row) != len(rows[0]) for row in rows):
        raise Broken(f"{name}: incomplete rows")
    return [{key: value for key, value in zip(rows[0], row) if key not in TIMED} for row in rows[1:]]


def expect_complete(folder, unsynced=()):
    """Every file under its final name is complete; what is still being written has another name. Files with the names
    `unsynced` may be empty."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or ".tmp" in path.name or path.name == "lock" or "tensorboard" in name:
            continue
        content = path.read_bytes()
        if path.name in unsynced and not content:
            continue
        if path.suffix == ".safetensors":
            checkpoint(content, name)
        elif path.suffix == ".csv":
            table(content.decode(), name, torn=path.name == "metrics.csv")
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".png" and not content.endswith(b"IEND\xaeB`\x82"):
            raise Broken(f"{name}: not a complete picture")
        elif path.suffix in (".yaml", ".md") and not content.endswith(b"\n"):
            raise Broken(f"{name}: no complete text")


def result(run):
    """What a run computed, to the bit and without times."""
    found, names = {}, ["last.safetensors", "best.safetensors"]
    for name in names:
        found[name] = checkpoint((run / "checkpoint" / name).read_bytes(), name)
        names += found[name].shards
    found["metrics"] = table((run / "metrics.csv").read_text(), "metrics.csv")
    record = json.loads((run / "record.json").read_text())
    found["record"] = {key: value for key, value in record.items() if key not in (*TIMED, "provenance")}
    answers = run / "answers.jsonl"
    found["answers"] = answers.read_text() if answers.exists() else ""
    return found


def expect_named(text, folder, error):
    """The message names a file of the folder, and the reason."""
    assert REASONS[error] in text, text
    assert re.search(re.escape(str(folder)) + r"|\w+\.(safetensors|csv|json|yaml|png|md)|gnuplot|klab", text), text

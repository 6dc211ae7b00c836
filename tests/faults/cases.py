# SPDX-License-Identifier: Apache-2.0
"""What the faults meet: commands of a second or less, each with what repeats or continues it, and what it must give."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import harness

SHORT_RUN = """base:
  task: {name: mqar, length: 16, vocab: 16}
  model: {layers: 1, width: 8, heads: 1, head_dim: 8}
  train: {batch: 4, steps: 4, eval_every: 2, eval_examples: 4, checkpoint_every: 2, stop_at: 2}
grid:
"""
SWEEP = SHORT_RUN + "  model.pattern: [kda, gdn]\n"
STUDY = SHORT_RUN + """  model.pattern: [kda, gdn]
study:
  claims: [{better: kda, than: gdn}]
  seeds: 2
"""
RL = ("--task.name", "question", "--task.length", "12", "--task.question.largest", "4", *harness.MODEL, *harness.TRAIN,
      "--rl.prompts", "2", "--rl.samples", "2", "--rl.max_new_tokens", "3", "--reward.name", "prefix")
SHARDED = ("--shard-gigabytes", "0.000001")


@dataclasses.dataclass
class Case:
    command: Callable[[pathlib.Path], list]
    again: Callable[[pathlib.Path], list]  # after a fault
    result: Callable[[pathlib.Path], object]
    prepare: Callable[[pathlib.Path], None] = lambda folder: None
    goes_on: bool = False  # after the failure of a part


def resume_or(command):
    return lambda folder: harness.resume(folder / "run") if (folder / "run/config.yaml").exists() else command(folder)


def train(folder):
    return harness.train(folder / "run")


SHARDS = ("--processes", "2", "--shard-checkpoints")


def train_shards(folder):
    return [*train(folder), *SHARDS]


def resume_shards_or_train(folder):
    words = resume_or(train_shards)(folder)
    return [*words, *SHARDS] if words[0] == "resume" else words


def rl(folder):
    return ["rl", "--quiet", "--threads", "1", "--out", folder / "run", *RL]


def run_result(folder):
    return harness.result(folder / "run")


def interrupt_training(folder):
    """A run that a signal stopped before its end."""
    counts = folder.parent / "interrupted.counts"
    done = harness.klab(train(folder), folder, "rename:5:SIGTERM", counts=counts)
    counts.unlink()
    assert done.returncode == 143, done.stderr


def sweep(folder):
    return ["sweep", folder / "sweep.yaml", "--out", folder / "out", "--threads", "1", "--workers", "1", "--quiet"]


def study(folder):
    return ["study", folder / "study.yaml", "--out", folder / "out", "--workers", "1", "--quiet"]


def export(folder):
    return ["export", folder / "run", "--out", folder / "exported", "--quiet", *SHARDED]


def export_again(folder):
    """config.json is the last file: with it the export is complete."""
    return ["--version"] if (folder / "exported/config.json").exists() else export(folder)


def sweep_result(folder):
    tables = {name: harness.table((folder / "out" / name).read_text(), name) for name in ("results.csv", "curves.csv")}
    return tables, [harness.result(path.parent) for path in sorted((folder / "out").rglob("record.json"))]


def study_result(folder):
    out = folder / "out"
    tables = {path.name: harness.table(path.read_text(), path.name) for path in out.glob("*.csv")}
    return tables, [harness.result(path.parent) for path in sorted(out.rglob("record.json"))]


def export_result(folder):
    return {path.name: path.read_bytes() for path in (folder / "exported").iterdir() if ".tmp" not in path.name}


CASES = {
    "train": Case(train, resume_or(train), run_result),
    "resume": Case(lambda folder: harness.resume(folder / "run"), resume_or(train), run_result, interrupt_training),
    "shards": Case(train_shards, resume_shards_or_train, run_result),
    "rl": Case(rl, resume_or(rl), run_result),
    "export": Case(export, export_again, export_result, lambda folder: harness.succeed(train(folder), folder)),
    "sweep": Case(sweep, sweep, sweep_result, lambda folder: (folder / "sweep.yaml").write_text(SWEEP), goes_on=True),
    "study": Case(study, study, study_result, lambda folder: (folder / "study.yaml").write_text(STUDY), goes_on=True),
}


class Prepared:
    """A case with its undisturbed result, and with the number of its calls of each kind."""

    def __init__(self, name, folder):
        self.case, self.base = CASES[name], folder
        self.template = folder / "template"
        self.work = folder / "work"  # always the same path: commands and some results name it
        self.work.mkdir()
        self.case.prepare(self.work)
        shutil.copytree(self.work, self.template)
        counts = folder / "counts"
        harness.succeed(self.case.command(self.work), self.work, counts=counts)
        self.calls = harness.counts_of(counts)
        self.expected = self.case.result(self.work)

    def fresh(self):
        """The folder before the command."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)
        return self.work

    def with_fault(self, fault):
        """The command with a fault; also whether this was reached."""
        folder, counts = self.fresh(), self.base / "counts"
        counts.unlink(missing_ok=True)
        done = harness.klab(self.case.command(folder), folder, fault, counts=counts)
        kind, number, _ = fault.split(":")
        return done, harness.counts_of(counts)[kind] >= int(number.rstrip("+"))

    def expect_whole(self):
        """Once repeated or continued without faults, the command gives what it gives undisturbed."""
        harness.succeed(self.case.again(self.work), self.work)
        assert self.case.result(self.work) == self.expected

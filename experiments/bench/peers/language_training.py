# SPDX-License-Identifier: Apache-2.0
"""Times training steps of a language model with klab and with PyTorch, and shows where klab's time goes.

    python experiments/bench/peers/language_training.py --peers DIR [--quick] [--threads N] [--rounds N] [--out FILE]

8 layers, three of KDA for each of MLA, SwiGLU, heads of 64, 256 tokens in the vocabulary, sequences of 1,024, 8 per step,
float32, AdamW. The peers are plain PyTorch (language_model.py around kda_torch.py in the folder --peers) and transformers'
Kimi Linear with dense layers, which takes one sequence per step, because its chunk form needs more memory. Both load the
weights of a run of klab and must give klab's loss within 1e-3 and finite gradients, else nothing is timed. Then klab
(`klab bench --training`, a process per round) and the peers take turns; numbers are medians over rounds. Prints a table and
writes CSV. Takes under ten minutes on two cores, --quick (tiny models, one round) under one. Needs the packages of
tests/conformance/requirements.txt and the built program.

ratio is klab's tokens per second over the peer's. gflops counts three forward passes, share_of_sgemm is relative to products
of 1024 x 1024 matrices in the same process. The other columns are shares of klab's time: see experiments/bench/training.h.
"""

import argparse
import csv
import importlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
import transformers
from language_model import LanguageModel
from provenance import header, write_rows
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("KLAB_PROGRAM", str(ROOT / "build" / "bin" / "klab"))
PATTERN, MIXERS = "kda*3,mla", ["kda", "kda", "kda", "mla"]
HEAD, VOCABULARY, MARKS = 64, 256, 7  # MARKS: tokens that the task adds to task.vocab
COLUMNS = ["width", "klab_tokens_per_second", "peer", "peer_tokens_per_second", "ratio", "gflops", "share_of_sgemm"]
TOLERANCE = 1e-3


def klab(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


class Workload:
    def __init__(self, width, layers, length, sequences):
        self.width, self.layers, self.length, self.sequences = width, layers, length, sequences
        self.heads = max(1, width // HEAD)
        self.tokens = torch.randint(VOCABULARY, (sequences, length), generator=torch.Generator().manual_seed(0))
        self.compared = self.tokens[:2]  # for the equality of losses

    def make_weights(self, folder):
        """Trains one step, and writes the run to folder/run and the same weights in the public layout to folder/public."""
        model = {"pattern": PATTERN, "layers": self.layers, "width": self.width, "heads": self.heads, "head_dim": HEAD}
        klab("--quiet", "--out", folder / "run", "train", "--task.name", "language", "--task.length", 64, "--task.vocab",
             VOCABULARY - MARKS, "--train.steps", 1, "--train.batch", 1, "--train.eval_examples", 1, "--test.examples", 1,
             *(word for key, value in model.items() for word in (f"--model.{key}", value)))
        klab("--quiet", "export", folder / "run", "--out", folder / "public")

    def klab_loss(self, folder):
        save_file({"tokens": self.compared}, folder / "tokens.safetensors")
        klab("--quiet", "logits", "--model", folder / "public", "--tokens-file", folder / "tokens.safetensors",
             "--out", folder / "logits.safetensors")
        return loss_of(load_file(folder / "logits.safetensors")["logits"], self.compared).item()

    def klab_speed(self, folder, threads, seconds):
        """The row of `klab bench --training`, by column."""
        out = folder / "speed.csv"
        klab("bench", "--training", PATTERN, "--task", "language", "--layers", self.layers, "--length", self.length,
             "--tokens", self.tokens.numel(), "--head-dim", HEAD, "--widths", self.width, "--seconds", seconds / 10,
             "--threads", threads, "--out", out)
        rows = csv.DictReader(line for line in out.read_text().splitlines() if not line.startswith("#"))
        return {name: float(cell.rstrip("%")) / (100 if cell.endswith("%") else 1) for name, cell in next(rows).items()}


def loss_of(logits, tokens):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


class Peer:
    """A PyTorch model with its optimiser; `logits` is a function of tokens."""

    def __init__(self, name, model, logits, tokens):
        self.name, self.model, self.logits, self.tokens = name, model.train(), logits, tokens
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    @torch.no_grad()
    def loss(self, tokens):
        return loss_of(self.logits(tokens), tokens).item()

    def step(self):
        loss_of(self.logits(self.tokens), self.tokens).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm.item()

    def speed(self):
        start = time.perf_counter()
        self.step()
        return self.tokens.numel() / (time.perf_counter() - start)


def peers_of(workload, folder, chunk):
    mixers = [MIXERS[i % len(MIXERS)] for i in range(workload.layers)]
    plain = LanguageModel(mixers, workload.width, workload.heads, HEAD, VOCABULARY, chunk)
    plain.load(folder / "run" / "checkpoint" / "last.safetensors")
    public = transformers.KimiLinearForCausalLM.from_pretrained(folder / "public")
    return [Peer("plain PyTorch", plain, plain, workload.tokens),
            Peer("transformers", public, lambda x: public(x, use_cache=False).logits, workload.tokens[:1])]


def check(peer, tokens, expected):
    """Exits unless the peer computes klab's loss of the tokens, and a step, its warm-up, has finite gradients."""
    loss = peer.loss(tokens)
    if not abs(loss - expected) <= TOLERANCE * expected:
        sys.exit(f"{peer.name}: the loss is {loss:.6g}, klab's is {expected:.6g}; nothing was timed")
    norm = peer.step()
    if not norm < float("inf"):
        sys.exit(f"{peer.name}: the norm of the gradients is {norm}; nothing was timed")


def race(workload, chunk, options, seconds):
    """(klab's medians by column, [(peer, its median)])."""
    with tempfile.TemporaryDirectory(prefix="klab-bench-") as name:
        folder = pathlib.Path(name)
        workload.make_weights(folder)
        peers, expected = peers_of(workload, folder, chunk), workload.klab_loss(folder)
        for peer in peers:
            check(peer, workload.compared, expected)
        ours, theirs = [], {peer.name: [] for peer in peers}
        for _ in range(options.rounds):
            ours.append(workload.klab_speed(folder, options.threads, seconds))
            for peer in peers:
                theirs[peer.name].append(peer.speed())
    medians = {name: statistics.median(row[name] for row in ours) for name in ours[0]}
    return medians, [(name, statistics.median(speeds)) for name, speeds in theirs.items()]


def rows_of(width, klab_medians, theirs):
    shares = list(klab_medians.items())[5:]  # after width, time, tokens/s, GFLOP/s and the share of products
    tokens = klab_medians["tokens/s"]
    return [{"width": width, "klab_tokens_per_second": tokens, "peer": name, "peer_tokens_per_second": speed,
             "ratio": tokens / speed, "gflops": klab_medians["GFLOP/s"], "share_of_sgemm": klab_medians["of product"],
             **dict(shares)} for name, speed in theirs]


def write(rows, options):
    comments = header("experiments/bench/peers/language_training.py", options.threads, [torch, transformers])
    write_rows(options.out, comments, rows, digits=4)
    for row in rows:
        print("width {width}: klab {klab_tokens_per_second:.0f} tokens/s, {peer} {peer_tokens_per_second:.0f}, ratio "
              "{ratio:.2f}; klab at {gflops:.0f} GFLOP/s, {share_of_sgemm:.1%} of SGEMM".format(**row))
    for row in {row["width"]: row for row in rows}.values():
        shares = ", ".join(f"{name} {row[name]:.1%}" for name in list(row)[len(COLUMNS):])
        print(f"width {row['width']}, klab's time: {shares}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder of kda_torch.py")
    parser.add_argument("--quick", action="store_true", help="tiny models, one round: tests the script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "language_training.csv")
    options = parser.parse_args()
    if not (options.peers / "kda_torch.py").is_file():
        sys.exit(f"{options.peers / 'kda_torch.py'} is missing: a chunkwise KDA in plain PyTorch, "
                 "chunk_kda_torch(q, k, v, g, beta, C)")
    torch.set_num_threads(options.threads)
    sys.modules["fla"] = None  # on a CPU, transformers would call its Triton kernels and fail
    sys.path.insert(0, str(options.peers))
    chunk = importlib.import_module("kda_torch").chunk_kda_torch
    if options.quick:
        options.rounds = 1
    transformers.utils.logging.set_verbosity_error()
    rows = []
    for width in (64, 128) if options.quick else (256, 512):
        workload = Workload(width, 4, 128, 2) if options.quick else Workload(width, 8, 1024, 8)
        rows += rows_of(width, *race(workload, chunk, options, seconds=0.5 if options.quick else 5))
    write(rows, options)


if __name__ == "__main__":
    main()

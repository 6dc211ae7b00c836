# SPDX-License-Identifier: Apache-2.0
"""Times klab's operators against the alternatives on a CPU, and against this machine's ceilings.

    PYTHONPATH=python python experiments/bench/peers/peers.py --peers DIR [--quick] [--threads 1,2] [--out FILE]

All implementations are first checked against each other, then timed alternately after a warm-up; times are medians. Prints a
table and writes CSV. Takes about fifteen minutes on two cores, --quick (only T = 1024) about four. Needs the packages of
tests/conformance/requirements.txt, and the plain PyTorch peers (kda_torch.py, train_torch.py) in the folder --peers.

ratio is peer_ms / ours_ms: above 1 klab is faster. gflops counts 6 T K^2 + 3 T C K + T C^2 per head with C = 16 for a
forward pass and three times that with the backward pass; share_of_sgemm is relative to SGEMM [4096,128]x[128,128].
"""

import argparse
import csv
import pathlib
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))

import contestants  # noqa: E402
import klab  # noqa: E402
from provenance import header  # noqa: E402
from timing import Ceilings, Race  # noqa: E402

from klab.integrations import transformers as integration  # noqa: E402

COLUMNS = ["what", "T", "threads", "ours_ms", "peer", "peer_ms", "ratio", "gflops", "share_of_sgemm"]
LINE = "{:31} {:>5} {:>2}  {:>9}  {:30} {:>9} {:>7} {:>7} {:>6}"
LARGEST_NAIVE = 1024  # for larger T the naive implementations and transformers need minutes or 20 GB
DECODE_HEADS, DECODE_STATES = 32, 320  # 640 MB of states, so that no state is in a cache when it is used
TRAINING = {"train step, width 64": (64, 2, 32, 256, 64, 64), "train step, width 256": (256, 2, 128, 256, 16, 64)}


class Report:
    def __init__(self, path, threads):
        self.path, self.threads, self.rows = path, threads, []

    def add(self, what, T, threads, ours_ms, peer, peer_ms, flops=None, sgemm=None, gflops=None):
        rate = gflops if flops is None else flops / ours_ms / 1e6
        row = [what, T, threads, _number(ours_ms), peer, _number(peer_ms),
               _number(peer_ms / ours_ms if ours_ms and peer_ms else None), _number(rate),
               _number(rate / sgemm if rate and sgemm else None)]
        self.rows.append(row)
        print(LINE.format(*row), flush=True)

    def write(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "w", newline="") as file:
            file.writelines(f"{line}\n" for line in header("experiments/bench/peers/peers.py", self.threads, [torch]))
            csv.writer(file).writerows([COLUMNS, *self.rows])


def _number(x):
    return "" if x is None else f"{x:.4g}"


# --- The operators ----------------------------------------------------------------------------------------------------


def operators(T, peers):
    """{name: (function, inputs)} of klab and of the peers. All except GDN compute the same function."""
    named = contestants.inputs(T)
    ours = {"KDA float32": (klab.chunk_kda, named),
            "KDA bfloat16 in and out": (klab.chunk_kda, contestants.bfloat16_inputs(named)),
            "KDA as DPLR": (klab.chunk_dplr_delta_rule, contestants.dplr_inputs(named)),
            "GDN": (klab.chunk_gated_delta_rule, contestants.gdn_inputs(named))}
    theirs = {"kda_torch.py": (peers["kda"].chunk_kda_torch, named)}
    if T <= LARGEST_NAIVE:
        theirs["fla naive chunk"] = (peers["naive"].naive_chunk_kda, named)
        theirs["fla naive recurrent"] = (peers["naive"].naive_recurrent_kda, named)
        theirs["transformers chunk"] = (lambda q, k, v, g, beta: peers["modeling"].chunk_kimi_delta_attention(
            q, k, v, g=g, beta=beta), named)
    return ours, theirs


def check(ours, theirs):
    """Exits if an implementation differs from klab's KDA."""
    with torch.no_grad():
        expected = ours["KDA float32"][0](**ours["KDA float32"][1])[0]
        for name, (function, named) in {**ours, **theirs}.items():
            error = ((function(**named)[0].float() - expected).norm() / expected.norm()).item()
            if name != "GDN" and not error < (1e-2 if "bfloat16" in name else 1e-3):
                sys.exit(f"{name} differs from klab's KDA by a relative error of {error:.3g}; nothing was timed")


def race_operators(report, T, threads, peers, rounds, ceilings, backward):
    ours, theirs = operators(T, peers)
    check(ours, theirs)
    make = contestants.forward_backward if backward else contestants.forward
    race = Race(rounds)
    for name, (function, named) in {**ours, **theirs}.items():
        race.add(name, make(function, named))
    ceilings.join(race)
    medians = race.run()
    suffix, flops = (" fwd+bwd", 3 * contestants.flops(T)) if backward else (" fwd", contestants.flops(T))
    sgemm = ceilings.gflops(ceilings.SGEMM, medians)
    main = medians["KDA float32"]
    for peer in theirs:
        report.add("KDA float32" + suffix, T, threads, main, peer, medians[peer], flops, sgemm)
    for other in list(ours)[1:]:
        report.add(other + suffix, T, threads, medians[other], "klab KDA float32", main, flops, sgemm)
    report_ceilings(report, T, threads, ceilings, medians, sgemm)


def report_ceilings(report, T, threads, ceilings, medians, sgemm):
    for name in ceilings.operands:
        report.add(name, T, threads, None, "torch", medians[name], gflops=ceilings.gflops(name, medians), sgemm=sgemm)
    for name in (ceilings.COPY, ceilings.UPDATE):
        report.add(name, T, threads, None, f"{ceilings.bytes / 1e9:.2f} GB read and written", medians[name])


# --- Decode -----------------------------------------------------------------------------------------------------------


class Decode:
    """Decodes one token for each of many sequences; the new state is copied into the old one."""

    def __init__(self):
        self.token = contestants.inputs(1, DECODE_HEADS)
        self.states = list(torch.randn(DECODE_STATES, 1, DECODE_HEADS, contestants.WIDTH, contestants.WIDTH).unbind())

    @torch.no_grad()
    def __call__(self):
        for n in range(DECODE_STATES):
            _, state = klab.fused_recurrent_kda(**self.token, initial_state=self.states[n], output_final_state=True)
            self.states[n].copy_(state)

    @torch.no_grad()
    def keeping(self):
        """The same, but replaces the old state tensor by the new one."""
        for n in range(DECODE_STATES):
            self.states[n] = klab.fused_recurrent_kda(**self.token, initial_state=self.states[n],
                                                      output_final_state=True)[1]


def race_decode(report, threads, rounds, ceilings):
    decode, race = Decode(), Race(rounds)
    race.add("decode", decode.keeping)
    race.add("decode in place", decode)
    ceilings.join(race)
    medians = race.run()
    state = DECODE_HEADS * contestants.WIDTH ** 2 * 4
    stream = medians[ceilings.UPDATE] * 2 * state / ceilings.bytes
    for name in ("decode", "decode in place"):
        report.add(f"{name}, {DECODE_HEADS} heads", 1, threads, medians[name] / DECODE_STATES, "read-modify-write of its state",
                   stream)


# --- Whole models -----------------------------------------------------------------------------------------------------


def race_model(report, T, threads, peers, rounds):
    model, tokens = contestants.tiny_model(peers["modeling"]), torch.randint(3, 1000, (1, T))

    @torch.no_grad()
    def without():
        return model(tokens, use_cache=False).logits

    def with_klab():
        with integration.enable():
            return without()

    error = ((with_klab() - without()).norm() / without().norm()).item()
    if not error < 1e-3:
        sys.exit(f"the model's logits with klab differ by {error:.3g}; nothing was timed")
    race = Race(rounds)
    race.add("klab", with_klab)
    race.add("transformers", without)
    medians = race.run()
    report.add("Kimi Linear model fwd", T, threads, medians["klab"], "transformers alone", medians["transformers"])


def race_training(report, what, threads, peers, rounds):
    shape = TRAINING[what]
    ours, plain = (contestants.TrainingStep(peers["train"], *shape, operators=own) for own in (True, False))
    error = abs(ours.loss().item() - plain.loss().item())
    if not error < 1e-3:
        sys.exit(f"{what}: the losses differ by {error:.3g}; nothing was timed")
    race = Race(rounds)
    race.add("klab", ours)
    race.add("train_torch.py", plain)
    medians = race.run()
    report.add(what, shape[3], threads, medians["klab"], "train_torch.py", medians["train_torch.py"])


# --- The run ----------------------------------------------------------------------------------------------------------


def load_peers(folder):
    files = {name: folder / f"{name}_torch.py" for name in ("kda", "train")}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}\nThese are the plain PyTorch peers, a chunkwise KDA and a training step "
                 "around it; pass the folder that has them with --peers DIR.")
    sys.path.insert(0, str(folder))  # train_torch imports kda_torch
    peers = {name: contestants.module_at(path, path.stem) for name, path in files.items()}
    return {**peers, "naive": contestants.naive_kda(), "modeling": contestants.modeling()}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder of kda_torch.py and train_torch.py")
    parser.add_argument("--quick", action="store_true", help="only T = 1024")
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "peers.csv")
    return parser.parse_args()


def main():
    args = arguments()
    peers = load_peers(args.peers)
    report, ceilings = Report(args.out, args.threads), Ceilings()
    print(LINE.format("what", "T", "th", "ours ms", "peer", "peer ms", "ratio", "GFLOP/s", "/SGEMM"))
    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        for T in (1024,) if args.quick else (1024, 8192):
            for backward in (False, True):
                race_operators(report, T, threads, peers, args.rounds, ceilings, backward)
        race_decode(report, threads, args.rounds, ceilings)
        race_model(report, 1024, threads, peers, args.rounds)
        for what in TRAINING:
            race_training(report, what, threads, peers, args.rounds)
    report.write()
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

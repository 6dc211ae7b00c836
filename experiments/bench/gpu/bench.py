# SPDX-License-Identifier: Apache-2.0
"""Times the CUDA kernels, this device's ceilings and, if it can be imported, flash-linear-attention's Triton kernels.

    PYTHONPATH=python python experiments/bench/gpu/bench.py --group GROUP --out FILE [--seconds 60] [--emulate]

Groups: compile_peers, every case of peers once, all at the same time, so that Triton's cache holds their kernels; ceilings;
headline, KDA forward at T = 8192 in every launch configuration; peers, the headline cases of both sides; backward; long, few
heads and long sequences; decode; kernels, the device time of each kernel of a call; figure2, the shapes of figure 2 of
arXiv 2510.26692; once, one untimed call per tier, for a profiler. One call of this program times one group, so that a fault
on the device ends that group only; every row is written and flushed when known.

Times are medians, both by replay of a CUDA graph (graph_ms; empty if the call cannot be captured) and by events around
eager calls (eager_ms), for klab and for the peer alike. Every call reads other inputs, whose copies together exceed the L2
cache. Columns: group; what, the operator and direction; plan, what klab launched; B, T, H, D; the times; tokens_per_second;
bytes, each input read and each output written once; share, the fraction of the measured copy bandwidth that moving these
bytes in graph_ms takes; ratio, the peer's time over klab's, of graphs if both have them; error, the relative RMS difference
of the two results; failure, the exception that ended the case. --emulate is a dry run on the CPU with small shapes: its
times mean nothing.
"""

import argparse
import csv
import ctypes
import dataclasses
import multiprocessing
import os
import pathlib
import statistics
import sys
import time

import torch

import klab

COLUMNS = ["group", "what", "plan", "B", "T", "H", "D", "graph_ms", "eager_ms", "tokens_per_second", "bytes", "share", "peer",
           "peer_graph_ms", "peer_eager_ms", "ratio", "error", "failure"]
EMULATED = "--emulate" in sys.argv
DEVICE, DTYPE = "cpu" if EMULATED else "cuda", torch.bfloat16
CACHE_BYTES = 128 << 20  # more than twice the L2 cache of an H100 or H200


# --- Timing -----------------------------------------------------------------------------------------------------------


def eager_milliseconds(calls, repeats=15):
    """Median time of single calls, by CUDA events, after a warm-up."""
    for call in calls[:3]:
        call()
    times = []
    for n in range(repeats):
        call = calls[n % len(calls)]
        if EMULATED:
            begin = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begin))
            continue
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def graph_milliseconds(calls):
    """Time per call in replays of a CUDA graph of all calls, without the host time between launches."""
    if EMULATED:
        return eager_milliseconds(calls, 3)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return eager_milliseconds([graph.replay]) / len(calls)


def both_times(calls):
    """(graph, eager); the graph's is None if the calls cannot be captured."""
    try:
        graph = graph_milliseconds(calls)
    except RuntimeError as error:
        print(f"not captured in a graph: {error}", flush=True)
        graph = None
    return graph, eager_milliseconds(calls)


def last_plan():
    """What klab launched last; "" if the library of CUDA kernels is not loaded."""
    library = os.environ.get("KLAB_CUDA_LIBRARY") or pathlib.Path(os.environ.get("KLAB_LIBRARY", "")).with_name("libklab_cuda.so")
    if EMULATED or not pathlib.Path(library).is_file():
        return ""
    plan = ctypes.CDLL(str(library)).klab_cuda_last_plan
    plan.restype = ctypes.c_char_p
    return plan().decode()


# --- Cases ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    operator: str  # kda, gdn, dplr
    direction: str  # forward, both (forward and backward), decode
    B: int
    T: int
    H: int
    D: int = 128
    packed: int = 1  # number of packed sequences in T tokens
    request: dict = dataclasses.field(default_factory=dict)  # TIER, CONSUMERS, PARTS of KLAB_CUDA_*
    peer: bool = False

    @property
    def what(self):
        packed = f", {self.packed} packed" if self.packed > 1 else ""
        return f"{self.operator} {self.direction}{packed}"


def hopper():
    return not EMULATED and torch.cuda.get_device_capability() == (9, 0)


def in_tiers(case):
    for tier in ("portable", "hopper") if hopper() else ("portable",):
        yield dataclasses.replace(case, request={"TIER": tier})


def headline():
    case = Case("kda", "forward", 1, 8192, 64)
    yield case
    yield from in_tiers(case)
    for consumers in ("4", "2", "1"):
        yield dataclasses.replace(case, request={"TIER": "portable", "CONSUMERS": consumers})
    for T in (1024, 2048, 4096, 16384, 32768, 65536):
        yield from in_tiers(Case("kda", "forward", 1, T, 64))
    for H in (32, 96):
        yield from in_tiers(Case("kda", "forward", 1, 8192, H))
    yield from in_tiers(Case("kda", "forward", 1, 8192, 64, D=64))


def peers():
    for case in (Case("kda", "forward", 1, 8192, 64), Case("kda", "both", 1, 8192, 64), Case("kda", "decode", 32, 1, 32),
                 Case("kda", "forward", 1, 65536, 8), Case("gdn", "forward", 1, 8192, 64), Case("gdn", "both", 1, 8192, 64)):
        yield dataclasses.replace(case, peer=True)


def backward():
    for operator, H in (("kda", 64), ("gdn", 64), ("kda", 32), ("kda", 96), ("dplr", 16)):
        yield Case(operator, "both", 1, 8192, H)


def long():
    for T, H in ((65536, 8), (65536, 32), (32768, 32), (8192, 32)):
        for case in in_tiers(Case("kda", "forward", 1, T, H)):
            yield case
            for parts in ("1", "4", "8"):
                yield dataclasses.replace(case, request={**case.request, "PARTS": parts})
    yield Case("kda", "forward", 1, 8192, 32, packed=16)
    yield Case("kda", "forward", 8, 1024, 32)


def decode():
    for batch in (1, 8, 32, 64, 256):
        yield Case("kda", "decode", batch, 1, 32)


def figure2():
    for operator in ("kda", "gdn", "dplr"):
        for T in (2048, 4096, 8192, 16384, 32768, 65536):
            yield Case(operator, "forward", 1, T, 16)


def kernels():
    yield from in_tiers(Case("kda", "forward", 1, 8192, 64))
    yield Case("kda", "both", 1, 8192, 64)
    yield Case("kda", "forward", 1, 65536, 8)


def once():
    yield from in_tiers(Case("kda", "forward", 1, 8192, 64))
    yield Case("kda", "both", 1, 8192, 64)


GROUPS = {"headline": headline, "peers": peers, "backward": backward, "long": long, "decode": decode, "figure2": figure2,
          "kernels": kernels, "once": once}


def small(case):
    """The shape of a dry run."""
    return dataclasses.replace(case, B=min(case.B, 2), T=min(case.T, 64), H=min(case.H, 2), D=16, packed=min(case.packed, 2))


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape, device=DEVICE), dim=-1).to(DTYPE)


def inputs(case):
    B, T, H, D = case.B, case.T, case.H, case.D
    x = {"q": unit(B, T, H, D), "k": unit(B, T, H, D), "v": torch.randn(B, T, H, D, device=DEVICE, dtype=DTYPE)}
    gate = -torch.rand(B, T, H, D, device=DEVICE) * 0.1
    if case.operator == "dplr":
        a = unit(B, T, H, D)
        x |= {"a": a, "b": -a * torch.rand(B, T, H, 1, device=DEVICE, dtype=DTYPE), "gk": gate.to(DTYPE)}
    else:
        x |= {"g": gate.to(DTYPE) if case.operator == "kda" else gate[..., 0].contiguous(),
              "beta": torch.rand(B, T, H, device=DEVICE, dtype=DTYPE)}
    if case.packed > 1:
        x["cu_seqlens"] = torch.arange(0, T + 1, T // case.packed, device=DEVICE)
    if case.direction == "both":
        x["d_o"] = torch.randn_like(x["v"])
    if case.direction == "decode":
        x["initial_state"] = torch.randn(B, H, D, D, device=DEVICE)
    return x


def ours(case):
    recurrent = case.direction == "decode"
    return {"kda": klab.fused_recurrent_kda if recurrent else klab.chunk_kda,
            "gdn": klab.fused_recurrent_gated_delta_rule if recurrent else klab.chunk_gated_delta_rule,
            "dplr": klab.chunk_dplr_delta_rule}[case.operator]


def theirs(case):
    """flash-linear-attention's function with the same arguments, or None."""
    try:
        if case.operator == "kda":
            from fla.ops.kda import chunk_kda, fused_recurrent_kda
            return fused_recurrent_kda if case.direction == "decode" else chunk_kda
        if case.operator == "gdn":
            from fla.ops.gated_delta_rule import chunk_gated_delta_rule
            return chunk_gated_delta_rule
        from fla.ops.generalized_delta_rule.dplr import chunk_dplr_delta_rule
        return chunk_dplr_delta_rule
    except ImportError:
        return None


def runner(function, case, x):
    """A function without arguments that runs `function` on the inputs x and returns the result to compare."""
    x = dict(x)
    d_o = x.pop("d_o", None)
    options = {"output_final_state": True} if case.direction == "decode" else {}
    if case.direction != "both":
        def forward():
            with torch.no_grad():
                return function(**x, **options)[0]
        return forward
    leaves = {name: tensor.detach().requires_grad_(tensor.is_floating_point()) for name, tensor in x.items()}

    def both():
        o, _ = function(**leaves)
        return torch.autograd.grad(o, [t for t in leaves.values() if t.requires_grad], d_o)[1]  # of k
    return both


def least_bytes(case, x):
    """Bytes of inputs read and o written. "both" adds reading them again and writing gradients; "decode" the new state."""
    given = sum(t.numel() * t.element_size() for name, t in x.items() if name != "d_o")
    o = x["v"].numel() * x["v"].element_size()
    if case.direction == "decode":
        return given + o + x["initial_state"].numel() * 4
    return given + o if case.direction == "forward" else 3 * given + 2 * o


# --- The run -----------------------------------------------------------------------------------------------------------


class Report:
    def __init__(self, path, origin):
        self.file = open(path, "w", newline="")
        self.file.write(f"# {origin}\n")
        self.writer = csv.DictWriter(self.file, COLUMNS)
        self.writer.writeheader()

    def add(self, **row):
        row = {name: f"{x:.4g}" if isinstance(x, float) else x for name, x in row.items() if x is not None}
        self.writer.writerow(row)
        self.file.flush()
        os.fsync(self.file.fileno())
        print("  ".join(f"{name} {row[name]}" for name in COLUMNS if row.get(name) not in (None, "")), flush=True)


def copy_bandwidth():
    """GB/s of a copy, read plus write."""
    x = torch.empty((1 << 20) if EMULATED else (1 << 30), device=DEVICE, dtype=torch.uint8).random_()
    y = torch.empty_like(x)
    return 2 * x.numel() / eager_milliseconds([lambda: y.copy_(x)]) / 1e6


def ceilings(report):
    report.add(group="ceilings", what="copy, GB/s", tokens_per_second=copy_bandwidth())
    size = 64 if EMULATED else 8192
    a, b = (torch.randn(size, size, device=DEVICE, dtype=DTYPE) for _ in range(2))
    ms = eager_milliseconds([lambda: a @ b])
    report.add(group="ceilings", what="bfloat16 product, TFLOP/s", T=size, eager_ms=ms, tokens_per_second=2 * size**3 / ms / 1e9)


def relative_rms(x, y):
    return ((x.double() - y.double()).norm() / y.double().norm()).item()


def request(case):
    for name in ("TIER", "CONSUMERS", "PARTS"):
        os.environ[f"KLAB_CUDA_{name}"] = case.request.get(name, "")
    torch.manual_seed(1)


def rows_by_kernel(case):
    """A row for each kernel of a call: its device time per call in eager_ms, by torch's profiler."""
    request(case)
    call = runner(ours(case), case, inputs(case))
    call()
    activities = [torch.profiler.ProfilerActivity.CPU if EMULATED else torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        for _ in range(5):
            call()
        if not EMULATED:
            torch.cuda.synchronize()
    for event in sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total):
        if event.self_device_time_total > 0:
            yield dict(plan=last_plan(), what=f"{case.what}: {event.count // 5} x {event.key[:150]}",
                       eager_ms=event.self_device_time_total / 5e3)


def run_once(case):
    request(case)
    runner(ours(case), case, inputs(case))()
    return dict(plan=last_plan())


def run_peer(case):
    case = small(case) if EMULATED else case
    if (peer := theirs(case)) is not None:
        runner(peer, case, inputs(case))()


def compile_peers(report):
    """Returns the number of processes that failed."""
    processes = [(case, multiprocessing.get_context("spawn").Process(target=run_peer, args=(case,))) for case in peers()]
    for _, process in processes:
        process.start()
    failures = 0
    for case, process in processes:
        process.join()
        if process.exitcode != 0:
            failures += 1
            report.add(group="compile_peers", what=case.what, failure=f"exit code {process.exitcode}")
    return failures


def measure(case, bandwidth):
    """The row of a case."""
    request(case)
    first = inputs(case)
    moved = least_bytes(case, first)
    copies = max(1, min(16, -(-CACHE_BYTES // moved)))
    sets = [first] + [inputs(case) for _ in range(copies - 1)]
    calls = [runner(ours(case), case, x) for x in sets]
    result = calls[0]()
    plan = last_plan()
    graph, eager = both_times(calls)
    ms = graph or eager
    row = dict(plan=plan, graph_ms=graph, eager_ms=eager, tokens_per_second=case.B * case.T / ms * 1e3, bytes=moved,
               share=moved / bandwidth / 1e6 / ms)
    if case.peer and (peer := theirs(case)) is None:
        row["peer"] = "fla: not installed"
    elif case.peer:
        try:
            calls = [runner(peer, case, x) for x in sets]
            row["error"] = relative_rms(result, calls[0]())
            row["peer"] = "fla Triton"
            row["peer_graph_ms"], row["peer_eager_ms"] = both_times(calls)
            row["ratio"] = row["peer_graph_ms"] / graph if graph and row["peer_graph_ms"] else row["peer_eager_ms"] / eager
        except Exception as error:  # keep klab's time if the peer cannot run
            row["peer"] = f"fla Triton: {type(error).__name__}: {error}"[:200]
    return row


def run_group(group, report, end):
    bandwidth = None if group == "once" else copy_bandwidth()
    failures = 0
    for case in GROUPS[group]():
        case = small(case) if EMULATED else case
        shape = dict(group=group, what=case.what, B=case.B, T=case.T, H=case.H, D=case.D)
        if time.monotonic() > end:
            report.add(**shape, failure="out of time")
            continue
        try:
            rows = rows_by_kernel(case) if group == "kernels" else [run_once(case) if group == "once" else measure(case, bandwidth)]
            for row in rows:
                report.add(**{**shape, **row})
        except Exception as error:
            failures += 1
            report.add(**shape, failure=f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
        if not EMULATED:
            torch.cuda.empty_cache()
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", required=True, choices=["compile_peers", "ceilings", *GROUPS])
    parser.add_argument("--out", required=True)
    parser.add_argument("--origin", default="experiments/bench/gpu/bench.py")
    parser.add_argument("--seconds", type=float, default=60, help="no new case after this time")
    parser.add_argument("--emulate", action="store_true", help="a dry run on the CPU")
    args = parser.parse_args()
    report = Report(args.out, args.origin)
    if args.group == "ceilings":
        return ceilings(report)
    if args.group == "compile_peers":
        return 1 if compile_peers(report) else 0
    return 1 if run_group(args.group, report, time.monotonic() + args.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Times the CUDA kernels, this device's ceilings and, if it can be imported, flash-linear-attention's Triton kernels.

    PYTHONPATH=python python experiments/bench/gpu/bench.py --out FILE [--seconds 240] [--only PART]

Times are medians of CUDA graph replays if a call can be captured, else of CUDA events around calls. Every case has new
random inputs. Columns: what, the operator and direction; B, T, H, D; ms; tokens_per_second; bytes, each input read and each
output written once; share, the fraction of the measured copy bandwidth that moving these bytes in this time takes; peer and
peer_ms, the Triton kernel in the same run; ratio, peer_ms / ms; error, the relative RMS difference of the two results.
Cases run in order of importance; those that do not fit in the time limit are not in the file.
"""

import argparse
import csv
import dataclasses
import os
import statistics
import time

import torch

import klab

COLUMNS = ["what", "B", "T", "H", "D", "ms", "tokens_per_second", "bytes", "share", "peer", "peer_ms", "ratio", "error"]
DEVICE, DTYPE = "cuda", torch.bfloat16


# --- Timing -----------------------------------------------------------------------------------------------------------


def milliseconds(call, repeats=15):
    """Median time of single calls, by CUDA events, after a warm-up."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def replayed(call):
    """The same for replays of a CUDA graph, without the host time between launches."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return milliseconds(graph.replay)


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
    tier: str = "portable"  # KLAB_CUDA_TIER

    @property
    def what(self):
        packed = f", {self.packed} packed" if self.packed > 1 else ""
        return f"{self.operator} {self.direction}{packed}" + (", hopper" if self.tier == "hopper" else "")


def cases():
    """Every case; forward passes in both tiers if the device supports them."""
    for case in portable_cases():
        yield case
        if case.direction == "forward" and torch.cuda.get_device_capability() == (9, 0):
            yield dataclasses.replace(case, tier="hopper")


def portable_cases():
    for T in (8192, 1024, 2048, 4096, 16384, 32768, 65536):
        yield Case("kda", "forward", 1, T, 64)
    yield Case("kda", "forward", 1, 65536, 8)
    yield Case("gdn", "forward", 1, 8192, 64)
    yield Case("kda", "both", 1, 8192, 64)
    yield Case("gdn", "both", 1, 8192, 64)
    for batch in (256, 32, 1):
        yield Case("kda", "decode", batch, 1, 32)
    for operator in ("kda", "gdn", "dplr"):  # figure 2 of arXiv 2510.26692: 16 heads of 128
        for T in (2048, 4096, 8192, 16384, 32768, 65536):
            yield Case(operator, "forward", 1, T, 16)
    for H in (32, 96):
        for T in (2048, 8192, 32768):
            yield Case("kda", "forward", 1, T, H)
        yield Case("kda", "both", 1, 8192, H)
    yield Case("kda", "forward", 1, 8192, 32, packed=16)
    yield Case("kda", "forward", 8, 1024, 32)
    yield Case("kda", "forward", 1, 8192, 64, D=64)
    yield Case("dplr", "both", 1, 8192, 16)


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
    """A function without arguments that runs `function` and returns the result to compare."""
    options = {"output_final_state": True} if case.direction == "decode" else {}
    if case.direction != "both":
        def forward():
            with torch.no_grad():
                return function(**x, **options)[0]
        return forward
    leaves = {name: tensor.detach().requires_grad_(tensor.is_floating_point()) for name, tensor in x.items()}
    d_o = torch.randn_like(leaves["v"])

    def both():
        o, _ = function(**leaves)
        return torch.autograd.grad(o, [t for t in leaves.values() if t.requires_grad], d_o)[1]  # of k
    return both


def least_bytes(case, x):
    """Bytes of inputs read and o written. "both" adds reading them again and writing gradients; "decode" the new state."""
    given = sum(t.numel() * t.element_size() for t in x.values())
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
        row = {name: f"{x:.4g}" if isinstance(x, float) else x for name, x in row.items()}
        self.writer.writerow(row)
        self.file.flush()
        print("  ".join(f"{name} {row[name]}" for name in COLUMNS if row.get(name) not in (None, "")), flush=True)


def ceilings(report):
    """GB/s of a copy (read plus write), TFLOP/s of a bfloat16 matrix product."""
    x = torch.empty(1 << 30, device=DEVICE, dtype=torch.uint8).random_()
    y = torch.empty_like(x)
    ms = milliseconds(lambda: y.copy_(x))
    bandwidth = 2 * x.numel() / ms / 1e6
    report.add(what="ceiling: copy, GB/s", ms=ms, bytes=2 * x.numel(), tokens_per_second=bandwidth)
    del x, y
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=DTYPE) for _ in range(2))
    ms = milliseconds(lambda: a @ b)
    report.add(what="ceiling: bfloat16 product, TFLOP/s", T=8192, ms=ms, tokens_per_second=2 * 8192**3 / ms / 1e9)
    return bandwidth


def relative_rms(x, y):
    return ((x.double() - y.double()).norm() / y.double().norm()).item()


def measure(case, bandwidth, report):
    torch.manual_seed(1)
    os.environ["KLAB_CUDA_TIER"] = case.tier
    x = inputs(case)
    call = runner(ours(case), case, x)
    result = call()
    try:
        ms = milliseconds(call) if case.direction == "both" else replayed(call)
    except RuntimeError as error:
        print(f"{case.what}: not captured in a graph, timed by single calls: {error}", flush=True)
        ms = milliseconds(call)
    moved = least_bytes(case, x)
    row = dict(what=case.what, B=case.B, T=case.T, H=case.H, D=case.D, ms=ms,
               tokens_per_second=case.B * case.T / ms * 1e3, bytes=moved, share=moved / bandwidth / 1e6 / ms)
    if case.tier == "portable" and (peer := theirs(case)) is not None:
        try:
            peer_call = runner(peer, case, x)
            row["error"] = relative_rms(result, peer_call())
            row |= {"peer": "fla Triton", "peer_ms": milliseconds(peer_call)}
            row["ratio"] = row["peer_ms"] / ms
        except Exception as error:  # keep klab's time if the peer cannot run
            row["peer"] = f"fla Triton: {type(error).__name__}"
    report.add(**row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--origin", default="experiments/bench/gpu/bench.py")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    report = Report(args.out, args.origin)
    bandwidth = ceilings(report)
    for case in cases():
        if args.only not in case.what:
            continue
        if time.monotonic() > end:
            print(f"out of time before {case.what}, T = {case.T}, H = {case.H}")
            break
        try:
            measure(case, bandwidth, report)
        except torch.OutOfMemoryError as error:
            print(f"{case.what}, T = {case.T}, H = {case.H}: {error}")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Gated DeltaNet over fla-core's public matrix (tests/ops/test_gdn.py there)."""

import klab
import pytest
import torch
import torch.nn.functional as F

import oracle
from compare import assert_close
from problem import MOST_QUICK, Problem, cases, check, check_naive, ours, surrounded, uniform, unit

NAIVE = oracle.naive("gated_delta_rule")
PUBLIC = {"o": .005, "ht": .005, "dbeta": .02, "dg": .02, "dA_log": .02, "ddt_bias": .02, "d": .008}
PACKED = {"o": .005, "ht": .005, "dk": .008, "dbeta": .015, "dg": .015, "d": .007}
RECURRENT = {"o": .002, "ht": .002, "d": .002}

FIXED = "B T H HV D scale norm mask l2"
FIXED_ROWS = [
    (4, 1024, 4, 4, 128, .1, 1, 1.0, False),
    (2, 75, 4, 4, 64, 1, .01, 0, False),
    (2, 500, 3, 3, 60, 1, 1, 0, False),
    (2, 1000, 3, 3, 64, .1, 1, .5, False),
    (3, 1024, 4, 4, 100, 1, .1, 0, False),
    (4, 1024, 4, 4, 128, .1, 1, 0, True),
    (2, 1500, 4, 4, 128, .1, 10, 0, False),
    (4, 2048, 8, 8, 64, .1, 1, 0, False),
    (2, 256, 2, 4, 64, .1, 1, 0, False),
    (2, 512, 2, 8, 64, .1, .1, 0, True),
    (2, 1024, 4, 8, 128, .1, 1, 0, False),
]


def drawn(case, dtype):
    """Uniform random inputs U; g = logsigmoid(U) / norm, beta = sigmoid(U) in float32, zero initial state."""
    B, T, H, HV, D = (case[name] for name in ("B", "T", "H", "HV", "D"))
    qk = uniform if case["l2"] else unit
    g = F.logsigmoid(torch.rand(B, T, HV)) / case["norm"]
    tensors = {"q": qk(B, T, H, D).to(dtype), "k": qk(B, T, H, D).to(dtype), "v": uniform(B, T, HV, D).to(dtype),
               "g": g * (torch.rand_like(g) >= case["mask"]), "beta": torch.rand(B, T, HV).sigmoid(),
               "initial_state": torch.zeros(B, HV, D, D)}
    return Problem(tensors, scale=case["scale"], qk_l2norm=case["l2"])


def plain(H, HV, D, B=2, T=130, l2=True):
    return drawn({"B": B, "T": T, "H": H, "HV": HV, "D": D, "scale": 1, "norm": 1, "mask": 0, "l2": l2}, torch.float32)


def check_naive_grouped(outputs, problem, public):
    """The naive form needs H == HV, so query and key heads are repeated."""
    group = problem.tensors["v"].shape[2] // problem.tensors["q"].shape[2]
    repeated = {name: problem.tensors[name].repeat_interleave(group, 2) for name in ("q", "k")}
    problem = Problem(**{**vars(problem), "tensors": {**problem.tensors, **repeated}})
    check_naive(NAIVE.naive_recurrent_gated_delta_rule, outputs, problem, public, scale=problem.scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@cases(FIXED, FIXED_ROWS)
def test_chunk(case, dtype):
    problem = drawn(case, dtype)
    check_naive_grouped(check(klab.chunk_gated_delta_rule, problem, PUBLIC), problem, PUBLIC)


@cases("B T H HV D norm dtype", [
    (1, 63, 1, 1, 64, 1, torch.float32), (2, 500, 4, 4, 60, 1, torch.float32), (2, 1000, 2, 8, 128, .1, torch.float32),
    (3, 1024, 2, 2, 128, 1, torch.float32), (4, 1024, 3, 3, 128, 10, torch.float32), (4, 2048, 4, 4, 64, 1, torch.float32),
    (2, 1024, 4, 4, 128, 1, torch.float16), (2, 1024, 4, 8, 128, 1, torch.float16)])
def test_fused_recurrent(case):
    problem = drawn({**case, "scale": 1, "mask": 0, "l2": False}, case["dtype"])
    problem.tensors = {name: surrounded(x) if name in "qkv" else x for name, x in problem.tensors.items()}
    outputs = check(klab.fused_recurrent_gated_delta_rule, problem, RECURRENT, gradients=case["dtype"] == torch.float32)
    check_naive_grouped(outputs, problem, RECURRENT)


@pytest.mark.parametrize("chunk_size", [16, 32, 64])
def test_chunk_sizes(chunk_size):
    problem = drawn({"B": 1, "T": 64, "H": 2, "HV": 4, "D": 32, "scale": 1, "norm": 1, "mask": 0, "l2": False},
                    torch.float32)
    check(klab.chunk_gated_delta_rule, problem, {"o": .005, "ht": .005, "d": .005, "dbeta": .01, "dg": .01},
          chunk_size=chunk_size)


def test_against_naive_chunk():
    problem = plain(2, 2, 64)
    outputs = [x.detach() for x in ours(klab.chunk_gated_delta_rule, problem)[1:]]
    check_naive(NAIVE.naive_chunk_gated_delta_rule, outputs, problem, PUBLIC, scale=1)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("function", [klab.chunk_gated_delta_rule, klab.fused_recurrent_gated_delta_rule])
def test_beta_sigmoid(function, negative):
    problem = plain(2, 4, 64)
    problem.tensors["beta"] = torch.randn(2, 130, 4)
    problem.beta_sigmoid, problem.neg_eigval = True, negative
    check(function, problem, PUBLIC)


def test_state_v_first():
    def turned(initial_state, **named):
        return klab.chunk_gated_delta_rule(initial_state=initial_state.transpose(-1, -2), **named)

    problem = plain(2, 4, 60)
    problem.tensors["initial_state"] = torch.randn(2, 4, 60, 60)
    check(turned, problem, PUBLIC, state_v_first=True)


@pytest.mark.parametrize("cuts", [None, [0, 1, 66, 130]], ids=["fixed", "packed"])
@pytest.mark.parametrize("H, HV, bias", [(2, 2, True), (2, 4, True), (2, 2, False)])
@pytest.mark.parametrize("function", [klab.chunk_gated_delta_rule, klab.fused_recurrent_gated_delta_rule])
def test_gate_in_kernel(function, H, HV, bias, cuts):
    problem = plain(H, HV, 64, B=1 if cuts else 2)
    problem.tensors["g"] = torch.randn_like(problem.tensors["g"])
    problem.use_gate, problem.A_log = True, torch.empty(HV).uniform_(1, 16).log()
    problem.dt_bias = torch.randn(HV) if bias else None
    if cuts:
        problem.cu_seqlens = torch.tensor(cuts)
        problem.tensors["initial_state"] = torch.randn(len(cuts) - 1, HV, 64, 64)
    check(function, problem, PUBLIC)


def packed(row):
    slow = row[3][-1] * row[1] * row[2] ** 2 > MOST_QUICK
    return pytest.param(*row, id="-".join(map(str, row)).replace(" ", ""), marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("H, HV, D, cuts, mask", [packed(row) for row in [
    (4, 4, 60, [0, 15], .1), (4, 8, 64, [0, 1, 66, 130], .5), (4, 4, 64, [0, 256, 500, 1000], .9),
    (4, 8, 64, [0, 256, 500, 1000], .5), (4, 4, 100, [0, 15, 100, 300, 1200, 2000], 0)]])
def test_packed(H, HV, D, cuts, mask, dtype):
    """Masked log decays are -1000, which resets the state."""
    T = cuts[-1]
    g = F.logsigmoid(torch.rand(1, T, HV))
    tensors = {"q": unit(1, T, H, D).to(dtype), "k": unit(1, T, H, D).to(dtype), "v": uniform(1, T, HV, D).to(dtype),
               "g": g.masked_fill(torch.rand_like(g) < mask, -1000), "beta": torch.rand(1, T, HV).sigmoid(),
               "initial_state": torch.randn(len(cuts) - 1, HV, D, D)}
    problem = Problem(tensors, cu_seqlens=torch.tensor(cuts))
    check_naive_grouped(check(klab.chunk_gated_delta_rule, problem, PACKED), problem, PACKED)


def test_decay_per_channel_too():
    """fused_recurrent_gated_delta_rule accepts g and gk together; their sum is the log decay per channel."""
    problem = plain(2, 2, 60)
    gk = F.logsigmoid(torch.randn(2, 130, 2, 60))
    both = klab.fused_recurrent_gated_delta_rule(**problem.tensors, gk=gk, use_qk_l2norm_in_kernel=True)[0]
    summed = dict(problem.tensors, g=problem.tensors["g"].unsqueeze(-1) + gk)
    assert_close("o", klab.chunk_kda(**summed, use_qk_l2norm_in_kernel=True)[0], both, 1e-6)
    alone = klab.fused_recurrent_gated_delta_rule(**dict(problem.tensors, g=None), gk=gk, use_qk_l2norm_in_kernel=True)[0]
    assert_close("o", klab.chunk_kda(**dict(problem.tensors, g=gk), use_qk_l2norm_in_kernel=True)[0], alone, 1e-6)


def test_without_decay_and_beta_it_is_the_delta_rule():
    tensors = {name: plain(2, 2, 60).tensors[name] for name in "qkv"}
    assert_close("o", klab.chunk_delta_rule(**tensors, use_qk_l2norm_in_kernel=True)[0],
                 klab.fused_recurrent_gated_delta_rule(**tensors, use_qk_l2norm_in_kernel=True)[0], 1e-6)

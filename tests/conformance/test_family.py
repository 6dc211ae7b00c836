# SPDX-License-Identifier: Apache-2.0
"""DeltaNet, GLA, simple GLA (Mamba2, RetNet, linear attention) and DPLR over fla-core's public matrix."""

import klab
import pytest
import torch
import torch.nn.functional as F

import oracle
from compare import assert_close
from problem import Problem, cases, check, check_naive, ours, uniform, unit

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16],
                                 ids=["float32", "float16", "bfloat16"])
CUTS = pytest.mark.parametrize("cuts", [[0, 15], [0, 1, 66, 130]], ids=str)


def head_first(function):
    """Wraps a naive form with layout [B, H, T, ...] and no scale as one with layout [B, T, H, ...]."""
    def call(initial_state, output_final_state, **inputs):
        o, state = function(**{name: x.transpose(1, 2) for name, x in inputs.items()}, initial_state=initial_state,
                            output_final_state=output_final_state)
        return o.transpose(1, 2), state
    return call


# --- DeltaNet ---------------------------------------------------------------------------------------------------------

DELTA = {"o": .006, "ht": .006, "d": .008}
DELTA_ROWS = [(1, 63, 1, 64), (2, 100, 4, 60), (2, 1024, 3, 128), (3, 1024, 4, 100), (4, 2048, 8, 64)]


def delta(B, T, H, D, dtype, cuts=None):
    tensors = {"q": torch.randn(B, T, H, D).to(dtype), "k": F.normalize(torch.randn(B, T, H, D), dim=-1).to(dtype),
               "v": torch.randn(B, T, H, D).to(dtype), "beta": torch.rand(B, T, H).sigmoid().to(dtype),
               "initial_state": torch.randn(B if cuts is None else len(cuts) - 1, H, D, D)}
    return Problem(tensors, cu_seqlens=None if cuts is None else torch.tensor(cuts))


@DTYPES
@cases("B T H D", DELTA_ROWS)
def test_chunk_delta_rule(case, dtype):
    problem = delta(**case, dtype=dtype)
    outputs = check(klab.chunk_delta_rule, problem, DELTA)
    check_naive(head_first(oracle.naive("delta_rule").delta_rule_recurrence), outputs, problem, DELTA)


@CUTS
def test_packed_delta_rule(cuts):
    problem = delta(1, cuts[-1], 4, 60, torch.float32, cuts)
    outputs = check(klab.fused_recurrent_delta_rule, problem, DELTA)
    check_naive(head_first(oracle.naive("delta_rule").delta_rule_recurrence), outputs, problem, DELTA)


def test_delta_rule_without_beta_has_ones():
    problem = delta(2, 130, 2, 60, torch.float32)
    tensors = {name: problem.tensors[name] for name in "qkv"}
    ones = klab.chunk_delta_rule(**tensors, beta=torch.ones(2, 130, 2))[0]
    assert_close("o", ones, klab.chunk_delta_rule(**tensors)[0], 1e-7)
    assert_close("o", ones, klab.fused_recurrent_delta_rule(**tensors)[0], 1e-7)


# --- Gated linear attention -------------------------------------------------------------------------------------------

GLA = {"o": .004, "ht": .005, "d": .005}
GLA_ROWS = [(1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 128, 1), (2, 1024, 8, 128, .1), (2, 1024, 8, 128, 10),
            (1, 70, 2, 256, 1), (4, 2048, 8, 64, 1)]


def gla(B, T, H, D, norm, dtype, per_head=False, cuts=None):
    g = F.logsigmoid(torch.randn(B, T, H) if per_head else torch.randn(B, T, H, D)) / norm
    tensors = {name: torch.randn(B, T, H, D).to(dtype) for name in "qkv"}
    tensors |= {"g": g, "initial_state": torch.randn(B if cuts is None else len(cuts) - 1, H, D, D)}
    return Problem(tensors, cu_seqlens=None if cuts is None else torch.tensor(cuts))


def naive_gla(g, **inputs):
    return oracle.naive("gla").naive_recurrent_gla(gk=g, **inputs)


@DTYPES
@cases("B T H D norm", GLA_ROWS)
def test_chunk_gla(case, dtype):
    problem = gla(**case, dtype=dtype)
    check_naive(naive_gla, check(klab.chunk_gla, problem, GLA), problem, GLA)


@CUTS
def test_packed_gla(cuts):
    problem = gla(1, cuts[-1], 4, 60, .1, torch.float32, cuts=cuts)
    check_naive(naive_gla, check(klab.fused_recurrent_gla, problem, GLA, rename={"g": "gk"}), problem, GLA)


@DTYPES
@cases("B T H D norm", GLA_ROWS)
def test_chunk_simple_gla(case, dtype):
    problem = gla(**case, dtype=dtype, per_head=True)
    outputs = check(klab.chunk_simple_gla, problem, GLA)
    check_naive(oracle.naive("simple_gla").naive_recurrent_simple_gla, outputs, problem, GLA)
    if dtype == torch.float32:
        check_naive(oracle.naive("simple_gla").naive_chunk_simple_gla, outputs, problem, GLA)


@CUTS
def test_packed_simple_gla(cuts):
    problem = gla(1, cuts[-1], 4, 60, .1, torch.float32, per_head=True, cuts=cuts)
    check(klab.fused_recurrent_simple_gla, problem, GLA)


@pytest.mark.parametrize("function", [klab.chunk_simple_gla, klab.fused_recurrent_simple_gla])
def test_constant_decay_of_heads(function):
    """g_gamma [H] is a decay that is constant over tokens; its gradient is the sum of g's over batch and tokens."""
    problem = gla(2, 70, 4, 32, 1, torch.float32, per_head=True)
    gamma = torch.tensor([1 - 2.0 ** (-5 - h) for h in range(4)]).log()
    problem.tensors["g"] = gamma.expand(2, 70, 4)
    leaves, o, state = ours(klab.chunk_simple_gla, problem)
    named = {name: x for name, x in problem.tensors.items() if name != "g"}
    gamma = gamma.clone().requires_grad_()
    o_gamma, state_gamma = function(**named, g_gamma=gamma, output_final_state=True)
    assert_close("o", o, o_gamma, 1e-6)
    assert_close("ht", state, state_gamma, 1e-6)
    o.square().sum().backward()
    o_gamma.square().sum().backward()
    assert_close("dg_gamma", leaves["g"].grad.sum((0, 1)), gamma.grad, 1e-5)


def test_linear_attention():
    """No decay, against the quadratic form."""
    q, k, v = (torch.randn(2, 100, 3, 40) for _ in range(3))
    o = klab.chunk_simple_gla(q, k, v)[0]
    scores = torch.einsum("bthk,bshk->bhts", q.double(), k.double()).tril() * 40 ** -0.5
    assert_close("o", torch.einsum("bhts,bshv->bthv", scores, v.double()), o, 1e-5)
    assert_close("o", torch.einsum("bhts,bshv->bthv", scores, v.double()), klab.fused_recurrent_gla(q, k, v)[0], 1e-5)


def test_mamba2():
    """State-space duality as in mamba_ssm's minimal listing: x dt, A dt, one group, scale 1."""
    T, heads, width, state = 512, 4, 16, 64
    x, A = torch.randn(2, T, heads, width), -0.1 * torch.rand(2, T, heads)
    B, C = torch.randn(2, T, 1, state), torch.randn(2, T, 1, state)
    y = klab.chunk_simple_gla(C, B, x, A, scale=1.0)[0]
    total = A.double().cumsum(1)
    decay = (total.unsqueeze(2) - total.unsqueeze(1)).permute(0, 3, 1, 2).exp().tril()  # [B, heads, T, T]
    scores = torch.einsum("btgn,bsgn->bts", C.double(), B.double()).unsqueeze(1) * decay
    expected = torch.einsum("bhts,bshp->bthp", scores, x.double())
    torch.testing.assert_close(y.double(), expected, atol=5e-4, rtol=0)
    assert_close("y", expected, y, 1e-5)


# --- DPLR -------------------------------------------------------------------------------------------------------------

DPLR = {"o": .007, "ht": .008, "d": .008}
DPLR_RECURRENT = {"o": .001, "ht": .001, "d": .008}
DPLR_ROWS = [(1, 63, 1, 64, None), (2, 500, 3, 60, -5.0), (2, 1000, 4, 64, -.61), (3, 1024, 4, 100, None),
             (4, 1024, 4, 128, -5.0), (2, 2048, 4, 64, -.61)]


def dplr(B, T, H, D, bound, dtype, cuts=None):
    gk = F.logsigmoid(torch.randn(B, T, H, D))
    a = unit(B, T, H, D)
    tensors = {"q": uniform(B, T, H, D).to(dtype), "k": uniform(B, T, H, D).to(dtype),
               "v": uniform(B, T, H, D).to(dtype), "a": a.to(dtype), "b": -a.to(dtype),
               "g": gk if bound is None else gk.clamp(bound, 0),
               "initial_state": torch.randn(B if cuts is None else len(cuts) - 1, H, D, D)}
    return Problem(tensors, cu_seqlens=None if cuts is None else torch.tensor(cuts))


def naive_dplr(a, b, g, **inputs):
    return head_first(oracle.naive("generalized_delta_rule/dplr").dplr_recurrence)(alpha=a, beta=b, gk=g, **inputs)


@DTYPES
@cases("B T H D bound", DPLR_ROWS)
def test_chunk_dplr(case, dtype):
    problem = dplr(**case, dtype=dtype)
    bound = case["bound"]
    outputs = check(klab.chunk_dplr_delta_rule, problem, DPLR, rename={"g": "gk"}, lower_bound=bound,
                    chunk_size=64 if bound == -.61 else 16, safe_gate=bound is not None)
    check_naive(naive_dplr, outputs, problem, DPLR)


def test_fused_recurrent_dplr():
    problem = dplr(2, 130, 4, 60, None, torch.float32)
    outputs = check(klab.fused_recurrent_dplr_delta_rule, problem, DPLR_RECURRENT, rename={"g": "gk"})
    check_naive(naive_dplr, outputs, problem, DPLR_RECURRENT)


@CUTS
def test_packed_dplr(cuts):
    problem = dplr(1, cuts[-1], 4, 60, None, torch.float32, cuts)
    outputs = check(klab.chunk_dplr_delta_rule, problem, DPLR, rename={"g": "gk"})
    check_naive(naive_dplr, outputs, problem, DPLR)


def test_kda_is_a_dplr():
    """DPLR equals the delta rule for a = e^g k (it acts on the state before the decay), b = -beta k and key beta k."""
    q, k, v = (unit(2, 130, 3, 60) for _ in range(3))
    g, beta = F.logsigmoid(torch.randn(2, 130, 3, 60)), torch.rand(2, 130, 3)
    h0 = torch.randn(2, 3, 60, 60)
    written = beta.unsqueeze(-1) * k
    kda = klab.chunk_kda(q, k, v, g, beta, initial_state=h0, output_final_state=True)
    as_dplr = klab.chunk_dplr_delta_rule(q, written, v, g.exp() * k, -written, g, initial_state=h0,
                                         output_final_state=True)
    for name, expected, actual in zip(("o", "ht"), kda, as_dplr):
        assert_close(name, expected, actual, 1e-5)

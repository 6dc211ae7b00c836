# SPDX-License-Identifier: Apache-2.0
"""Kimi Delta Attention over fla-core's public matrix (tests/ops/test_kda.py there)."""

import klab
import pytest
import torch
import torch.nn.functional as F

import oracle
from compare import assert_close
from problem import MOST_QUICK, Problem, cases, check, check_naive, ours, surrounded, uniform, unit

NAIVE = oracle.naive("kda")
PUBLIC = {"o": .005, "ht": .005, "dg": .02, "dbeta": .02, "d": .008}
PACKED = {"o": .005, "ht": .005, "dk": .008, "dg": .015, "dbeta": .015, "dA_log": .008, "ddt_bias": .005, "d": .007}
RECURRENT = {"o": .005, "ht": .005, "d": .008}

FIXED = "B T H HV D scale norm mask l2 gate lower"
FIXED_FP16 = [
    (1, 63, 1, 1, 64, 1, 1, 0, False, False, True),
    (2, 500, 3, 3, 60, 1, 1, 0, False, False, True),
    (2, 1000, 3, 3, 64, .1, 1, .5, False, False, False),
    (3, 1024, 4, 4, 100, 1, .1, 0, False, False, False),
    (4, 1024, 4, 4, 128, .1, 1, 0, False, False, True),
    (4, 1024, 4, 4, 128, .1, 1, 0, True, False, True),
    (2, 1500, 4, 4, 128, .1, 10, 0, False, True, False),
    (4, 2048, 8, 8, 64, .1, 1, 0, False, True, True),
    (2, 1024, 2, 4, 64, .1, 1, 0, False, False, False),
    (2, 1024, 2, 8, 64, .1, 1, 0, False, True, False),
    (2, 1024, 4, 8, 128, .1, 1, 0, True, True, False),
    (2, 160, 2, 4, 64, .1, 1, 0, False, True, True),
]
FIXED_BF16 = [
    (2, 1024, 2, 4, 64, .1, 1, 0, True, True, True),
    (2, 1024, 2, 4, 64, .1, 1, 0, False, True, False),
    (2, 160, 2, 4, 64, .1, 1, 0, False, True, True),
    (2, 1024, 2, 8, 128, .1, 1, 0, True, True, False),
]
HALF = [(*row, torch.float16) for row in FIXED_FP16] + [(*row, torch.bfloat16) for row in FIXED_BF16]


def drawn(case, dtype):
    """Uniform q, k, v; g = logsigmoid(N) / norm with a fraction `mask` set to 0, or raw with A_log and dt_bias; normal
    initial states."""
    B, T, H, HV, D = (case[name] for name in ("B", "T", "H", "HV", "D"))
    qk = uniform if case["l2"] else unit
    raw = torch.randn(B, T, HV, D)
    g = raw if case["gate"] else F.logsigmoid(raw) / case["norm"]
    g = g * (torch.rand_like(g) > case["mask"])
    if case["lower"] and not case["gate"]:
        g = g.clamp(-5, 0)
    tensors = {"q": qk(B, T, H, D).to(dtype), "k": qk(B, T, H, D).to(dtype), "v": uniform(B, T, HV, D).to(dtype),
               "g": g.to(dtype) if case["gate"] else g, "beta": torch.randn(B, T, HV).sigmoid().to(dtype),
               "initial_state": torch.randn(B, HV, D, D)}
    return Problem(tensors, scale=case["scale"], qk_l2norm=case["l2"], use_gate=case["gate"],
                   lower_bound=-5.0 if case["gate"] and case["lower"] else None,
                   A_log=torch.randn(HV) if case["gate"] else None,
                   dt_bias=torch.randn(HV * D) if case["gate"] else None)


@cases(FIXED, FIXED_FP16 + FIXED_BF16)
def test_chunk_float32(case):
    problem = drawn(case, torch.float32)
    outputs = check(klab.chunk_kda, problem, PUBLIC)
    check_naive(NAIVE.naive_recurrent_kda, outputs, problem, PUBLIC, scale=problem.scale)


@cases(FIXED + " dtype", HALF)
def test_chunk_half(case):
    problem = drawn(case, case["dtype"])
    outputs = check(klab.chunk_kda, problem, PUBLIC)
    check_naive(NAIVE.naive_recurrent_kda, outputs, problem, PUBLIC, scale=problem.scale)


RECURRENT_CASES = "B T H HV D scale l2"
RECURRENT_ROWS = [(1, 64, 1, 1, 64, 1, False), (2, 512, 3, 3, 60, 1, False), (3, 1000, 4, 4, 100, .1, True),
                  (4, 1024, 4, 4, 128, .1, False), (2, 512, 2, 4, 60, 1, False), (2, 1024, 2, 8, 128, .1, True)]


@cases(RECURRENT_CASES, RECURRENT_ROWS)
def test_fused_recurrent(case):
    """Rows are surrounded by NaN, which detects vector loads past the end of a head."""
    problem = drawn({**case, "norm": 1, "mask": 0, "gate": False, "lower": False}, torch.float32)
    problem.tensors = {name: surrounded(x) if x.ndim == 4 and name != "initial_state" else x
                       for name, x in problem.tensors.items()}
    outputs = check(klab.fused_recurrent_kda, problem, RECURRENT)
    check_naive(NAIVE.naive_recurrent_kda, outputs, problem, RECURRENT, scale=problem.scale)


@cases("B T H HV D scale norm", [(1, 64, 1, 1, 64, 1, 1), (2, 512, 3, 3, 60, 1, 1), (4, 1024, 4, 4, 128, .1, 1),
                                 (4, 1024, 4, 4, 128, 1, 10), (1, 64, 1, 2, 64, 1, 1), (2, 512, 2, 4, 60, 1, 1)])
def test_against_naive_chunk(case):
    T = case["T"] // 64 * 64  # the naive form needs a multiple of the chunk size
    problem = drawn({**case, "T": T, "mask": 0, "l2": False, "gate": False, "lower": False}, torch.float32)
    outputs = [x.detach() for x in ours(klab.chunk_kda, problem)[1:]]
    check_naive(NAIVE.naive_chunk_kda, outputs, problem, PUBLIC, scale=problem.scale)


PACKED_ROWS = [
    (4, 60, .1, [0, 15], True, False),
    (4, 64, .9, [0, 256, 500, 1000], True, False),
    (4, 128, .5, [0, 256, 500, 1000], False, False),
    (4, 100, 0, [0, 15, 100, 300, 1200, 2000], True, False),
    (4, 256, 0, [0, 100, 300, 1200, 3000, 4096], False, True),
    (4, 60, .1, [0, 31, 96, 160], True, False),
]
PACKED_SMALL = [(4, 64, .9, [0, 1, 66, 130], True, False), (2, 128, .5, [0, 63, 64, 128], False, False),
                (2, 256, 0, [0, 17, 70], False, True)]


def packed(row):
    slow = row[3][-1] * row[0] * row[1] ** 2 > MOST_QUICK
    return pytest.param(*row, id="-".join(map(str, row)).replace(" ", ""), marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("H, D, mask, cuts, gate, bounded", [packed(row) for row in PACKED_SMALL + PACKED_ROWS])
def test_packed(H, D, mask, cuts, gate, bounded, dtype):
    """Masked log decays are -1000 (representable in float16), which resets the state."""
    T, N = cuts[-1], len(cuts) - 1
    raw = torch.randn(1, T, H, D)
    g = raw if gate else F.logsigmoid(raw).clamp(-5 if bounded else None, 0)
    masked = torch.rand_like(g) < mask
    g = g.masked_fill(masked, 1000 if gate else -1000)  # a raw gate of 1000 makes a log-decay of -1000 exp(A_log)
    tensors = {"q": unit(1, T, H, D).to(dtype), "k": unit(1, T, H, D).to(dtype), "v": uniform(1, T, H, D).to(dtype),
               "g": g.to(dtype), "beta": torch.rand(1, T, H).sigmoid().to(dtype),
               "initial_state": torch.randn(N, H, D, D)}
    problem = Problem(tensors, use_gate=gate, cu_seqlens=torch.tensor(cuts, dtype=torch.int32),
                      A_log=torch.empty(H).uniform_(1, 16).log() if gate else None,
                      dt_bias=torch.randn(H * D) if gate else None)
    outputs = check(klab.chunk_kda, problem, PACKED)
    check_naive(NAIVE.naive_recurrent_kda, outputs, problem, PACKED)


@cases("B T H D", [(1, 63, 1, 64), (2, 500, 3, 60), (3, 1024, 4, 128), (4, 2048, 8, 64)])
def test_state_v_first(case):
    """Transposed states, in and out, change nothing else; a tenth of fla-core's tolerance of 1e-4."""
    problem = drawn({**case, "HV": case["H"], "scale": .1, "norm": 1, "mask": 0, "l2": True, "gate": False,
                     "lower": False}, torch.float32)
    leaves, o, state = ours(klab.chunk_kda, problem)
    turned = dict(problem.tensors, initial_state=problem.tensors["initial_state"].transpose(-1, -2).contiguous())
    turned_leaves, turned_o, turned_state = ours(klab.chunk_kda, Problem(turned, scale=.1, qk_l2norm=True),
                                                 state_v_first=True)
    assert turned_state.is_contiguous()
    assert_close("o", o, turned_o, 1e-5)
    assert_close("ht", state, turned_state.transpose(-1, -2), 1e-5)
    d_o, d_state = torch.randn_like(o), torch.randn_like(state)
    ((o * d_o).sum() + (state * d_state).sum()).backward()
    ((turned_o * d_o).sum() + (turned_state.transpose(-1, -2) * d_state).sum()).backward()
    for name, leaf in leaves.items():
        other = turned_leaves[name].grad
        assert_close(f"d{name}", leaf.grad, other.transpose(-1, -2) if name == "initial_state" else other, 1e-5)


def test_state_v_first_against_float64():
    problem = drawn({"B": 2, "T": 70, "H": 2, "HV": 4, "D": 40, "scale": 1, "norm": 1, "mask": 0, "l2": False,
                     "gate": False, "lower": False}, torch.float32)

    def turned(initial_state, **named):
        return klab.chunk_kda(initial_state=initial_state.transpose(-1, -2), **named)

    check(turned, problem, PUBLIC, state_v_first=True)


@pytest.mark.parametrize("B, T, H, D, dtype, negative", [
    (1, 130, 4, 128, torch.bfloat16, False), (1, 130, 4, 128, torch.bfloat16, True), (2, 96, 2, 64, torch.float16, True),
    pytest.param(1, 8192, 96, 128, torch.bfloat16, False, marks=pytest.mark.slow),
    pytest.param(1, 8192, 96, 128, torch.bfloat16, True, marks=pytest.mark.slow)])
def test_beta_sigmoid_inside_is_outside(B, T, H, D, dtype, negative):
    q, k, v = (torch.randn(B, T, H, D, dtype=dtype) for _ in range(3))
    g, raw = F.logsigmoid(torch.randn(B, T, H, D)), torch.randn(B, T, H)
    options = {"use_qk_l2norm_in_kernel": True, "output_final_state": True}
    inside = klab.chunk_kda(q, k, v, g, raw, use_beta_sigmoid_in_kernel=True, allow_neg_eigval=negative, **options)
    outside = klab.chunk_kda(q, k, v, g, raw.sigmoid() * (2 if negative else 1), **options)
    for name, a, b in zip(("o", "ht"), outside, inside):
        assert_close(name, a, b, 1e-4)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("function", [klab.chunk_kda, klab.fused_recurrent_kda])
def test_beta_sigmoid_against_float64(function, negative):
    problem = drawn({"B": 2, "T": 96, "H": 2, "HV": 2, "D": 64, "scale": 1, "norm": 1, "mask": 0, "l2": True,
                     "gate": False, "lower": False}, torch.float32)
    problem.tensors["beta"] = torch.randn(2, 96, 2)
    problem.beta_sigmoid, problem.neg_eigval = True, negative
    check(function, problem, RECURRENT)


GATES = [(has_A, has_bias, lower) for has_A in (True, False) for has_bias in (True, False) for lower in (None, -5.0)
         if has_A or lower]


@pytest.mark.parametrize("B, T, H, D", [(1, 2, 2, 12), (1, 32, 2, 16), (2, 64, 4, 32),
                                        pytest.param(4, 128, 8, 64, marks=pytest.mark.slow),
                                        pytest.param(4, 128, 8, 128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("has_A, has_bias, lower", GATES)
def test_gate(B, T, H, D, has_A, has_bias, lower):
    """fused_kda_gate on raw gates 10 N(0, 1); a tenth of fla-core's tolerance of 1e-4."""
    leaves = {"g": 10 * torch.randn(B, T, H, D), "A_log": torch.empty(H).uniform_(1, 16).log() if has_A else None,
              "dt_bias": torch.randn(H * D) if has_bias else None}
    named = {name: x.requires_grad_() for name, x in leaves.items() if x is not None}
    wide = {name: x.detach().double().requires_grad_() for name, x in named.items()}
    y = klab.fused_kda_gate(**named, lower_bound=lower)
    expected = oracle.gate(wide["g"], wide.get("A_log"), wide.get("dt_bias"), lower)
    assert_close("g", expected, y, 1e-5)
    d_y = torch.randn_like(y)
    for (name, x), a, b in zip(wide.items(), torch.autograd.grad(expected, list(wide.values()), d_y.double()),
                               torch.autograd.grad(y, list(named.values()), d_y)):
        assert_close(f"d{name}", a, b, 1e-5)


@pytest.mark.parametrize("lower", [None, -5.0])
@pytest.mark.parametrize("function", [klab.chunk_kda, klab.fused_recurrent_kda])
def test_gate_in_kernel(function, lower):
    """A_log = log U(1, 16), raw gates 10 N(0, 1); a tenth of fla-core's tolerance of 0.002."""
    problem = drawn({"B": 2, "T": 130, "H": 2, "HV": 4, "D": 60, "scale": None, "norm": 1, "mask": 0, "l2": True,
                     "gate": True, "lower": lower is not None}, torch.float32)
    problem.tensors["g"] *= 10
    problem.A_log = torch.empty(4).uniform_(1, 16).log()
    check(function, problem, {"o": .002, "ht": .002, "d": .002})


@pytest.mark.parametrize("T", [1024, pytest.param(16384, marks=pytest.mark.slow)])
def test_the_same_key_again_and_again(T):
    """Near-collinear keys with beta close to one and very weak decay make a matrix inverse in half precision fail."""
    D = 64
    key = torch.randn(D)
    problem = Problem({"q": torch.randn(1, T, 1, D), "k": (key + 1e-3 * torch.randn(1, T, 1, D)),
                       "v": torch.randn(1, T, 1, D), "g": torch.full((1, T, 1, D), -12.0),
                       "beta": torch.full((1, T, 1), 8.0), "initial_state": torch.zeros(1, 1, D, D)},
                      qk_l2norm=True, use_gate=True, beta_sigmoid=True, A_log=torch.zeros(1))
    check(klab.chunk_kda, problem, PUBLIC, gradients=T <= 1024)


@pytest.mark.parametrize("length", [1, 40, 64, 100])
def test_a_prefix_does_not_see_the_future(length):
    problem = drawn({"B": 1, "T": 160, "H": 2, "HV": 2, "D": 64, "scale": 1, "norm": 1, "mask": 0, "l2": True,
                     "gate": True, "lower": True}, torch.float32)
    whole = ours(klab.chunk_kda, problem)[1]
    cut = {name: x if name == "initial_state" else x[:, :length] for name, x in problem.tensors.items()}
    prefix = ours(klab.chunk_kda, Problem(**{**vars(problem), "tensors": cut}))[1]
    assert_close("o", whole[:, :length], prefix, 1e-6)

# SPDX-License-Identifier: Apache-2.0
"""A random input for a recurrence, run by an operator of klab and by the references."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import compare
import oracle
from oracle import one_thread

SMALL_T = 130  # two chunks of 64 and two tokens
MOST_QUICK = 6e6  # limit for tests without --slow: state elements over all tokens, B T HV K V


@dataclasses.dataclass
class Problem:
    """`tensors` are the operator's tensor arguments by name; gradients are taken with respect to all of them."""

    tensors: dict
    scale: float | None = None
    qk_l2norm: bool = False
    use_gate: bool = False
    lower_bound: float | None = None
    beta_sigmoid: bool = False
    neg_eigval: bool = False
    cu_seqlens: torch.Tensor | None = None
    A_log: torch.Tensor | None = None
    dt_bias: torch.Tensor | None = None

    @property
    def dtype(self):
        return self.tensors["v"].dtype

    def leaves(self, dtype=None):
        """New leaf tensors by name, in their own dtypes or all in `dtype`."""
        named = {**self.tensors, "A_log": self.A_log, "dt_bias": self.dt_bias}
        return {name: _leaf(x, dtype) for name, x in named.items() if x is not None}

    def options(self):
        """The options that are not at their default, under the names of the public functions."""
        chosen = {"scale": self.scale, "use_qk_l2norm_in_kernel": self.qk_l2norm, "use_gate_in_kernel": self.use_gate,
                  "lower_bound": self.lower_bound, "use_beta_sigmoid_in_kernel": self.beta_sigmoid,
                  "allow_neg_eigval": self.neg_eigval, "cu_seqlens": self.cu_seqlens}
        return {name: value for name, value in chosen.items() if value is not None and value is not False}

    def activated(self, leaves):
        """The recurrence's inputs after normalisation, gate and beta activation, in the dtype of the leaves."""
        out = {name: leaves.get(name) for name in ("q", "k", "v", "g", "beta", "a", "b", "initial_state")}
        if self.qk_l2norm:
            out["q"], out["k"] = oracle.l2norm(out["q"]), oracle.l2norm(out["k"])
        if self.use_gate:
            out["g"] = oracle.gate(out["g"], leaves.get("A_log"), leaves.get("dt_bias"), self.lower_bound)
        if self.beta_sigmoid:
            out["beta"] = torch.sigmoid(out["beta"]) * (2 if self.neg_eigval else 1)
        return out


def _leaf(x, dtype):
    """A leaf tensor with the strides of x."""
    return (x if dtype is None else x.to(dtype)).detach().requires_grad_()


@one_thread()
def exact(problem):
    """({name: leaf}, o, final state) of the reference, in float64."""
    leaves = problem.leaves(torch.float64)
    o, state = oracle.recurrence(**problem.activated(leaves), scale=problem.scale, cu_seqlens=problem.cu_seqlens)
    return leaves, o, state


def ours(function, problem, rename=None, **options):
    """({name: leaf}, o, final state) of an operator of klab; `rename` maps names of Problem to its argument names."""
    leaves = problem.leaves()
    named = {(rename or {}).get(name, name): x for name, x in leaves.items()}
    o, state = function(**named, output_final_state=True, **problem.options(), **options)
    return leaves, o, state


def backward(leaves, o, state, d_o, d_state):
    """Gradients of sum(o d_o) + sum(state d_state), by name."""
    loss = (o.double() * d_o.double()).sum() + (state.double() * d_state.double()).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return {f"d{name}": gradient for name, gradient in zip(leaves, gradients)}


def check(function, problem, public, rename=None, gradients=True, **options):
    """Compares an operator of klab with the float64 reference: outputs, final state and all gradients. Returns klab's
    (o, state)."""
    expected_leaves, o, state = exact(problem)
    leaves, our_o, our_state = ours(function, problem, rename, **options)
    if options.get("state_v_first"):
        our_state = our_state.transpose(-1, -2)
    assert our_o.dtype == problem.dtype and our_state.dtype == torch.float32
    compare.assert_close("o", o, our_o, compare.tolerance_of("o", public, problem.dtype))
    compare.assert_close("ht", state, our_state, compare.tolerance_of("ht", public, problem.dtype))
    if gradients:
        d_o, d_state = torch.randn_like(our_o), torch.randn_like(our_state)
        with one_thread():
            expected = backward(expected_leaves, o, state, d_o, d_state)
        actual = backward(leaves, our_o, our_state, d_o, d_state)
        for name, gradient in expected.items():
            assert actual[name].dtype == leaves[name[1:]].dtype
            compare.assert_close(name, gradient, actual[name], compare.tolerance_of(name, public, problem.dtype))
    return our_o.detach(), our_state.detach()


def check_naive(function, outputs, problem, public, **options):
    """Compares klab's `outputs` (o, state) with a naive form of fla-core in float32, at fla-core's tolerance. The naive
    form computes packed sequences one by one."""
    with torch.no_grad(), one_thread():
        inputs = problem.activated(problem.leaves(torch.float32))
        state = inputs.pop("initial_state")
        inputs = {name: x for name, x in inputs.items() if x is not None}
        T = problem.tensors["q"].shape[1]
        cuts = [0, T] if problem.cu_seqlens is None else problem.cu_seqlens.tolist()
        runs = [function(**{name: x[:, start:end] for name, x in inputs.items()}, output_final_state=True, **options,
                         initial_state=state if problem.cu_seqlens is None else state[n:n + 1])
                for n, (start, end) in enumerate(zip(cuts, cuts[1:]))]
    compare.assert_close("o of naive", torch.cat([o for o, _ in runs], 1), outputs[0], public["o"])
    compare.assert_close("ht of naive", torch.cat([S for _, S in runs]), outputs[1], public["ht"])


def cases(names, rows):
    """pytest parameters for a table of fla-core's tests: each row at reduced B, T and H, and at full size, marked slow if
    large."""
    names, parameters = names.split(), []
    for row in rows:
        case = dict(zip(names, row, strict=True))
        state, T = case.get("HV", case["H"]) * case["D"] ** 2, min(case["T"], SMALL_T)
        small = {**case, "B": 2 if case["B"] > 1 and 2 * T * state <= MOST_QUICK else 1, "T": T}
        if "HV" not in case:
            small["H"] = min(case["H"], 3)
        parameters.append(pytest.param(small, id=_label(small)))
        if small != case:
            quick = case["B"] * case["T"] * state <= MOST_QUICK
            parameters.append(pytest.param(case, id=_label(case), marks=() if quick else pytest.mark.slow))
    return pytest.mark.parametrize("case", parameters)


def _label(case):
    return "-".join(f"{name}{str(value).removeprefix('torch.').replace(' ', '')}" for name, value in case.items())


def uniform(*shape):
    return torch.rand(*shape)


def unit(*shape):
    """Keys and queries as in fla-core's tests: positive, of L2 norm one."""
    return F.normalize(torch.rand(*shape), dim=-1)


def surrounded(x):
    """x [..., D] as a view into a larger buffer with NaN after each row: reads past the end of a row yield NaN."""
    buffer = torch.full((*x.shape[:-1], x.shape[-1] + 8), torch.nan, dtype=x.dtype)
    buffer[..., :x.shape[-1]] = x
    return buffer[..., :x.shape[-1]]

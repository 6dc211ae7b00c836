# SPDX-License-Identifier: Apache-2.0
"""The short convolution against torch.nn.functional.conv1d in float64; states against splitting the sequence. Gated norm."""

import klab
import pytest
import torch
import torch.nn.functional as F

from compare import assert_close, tolerance_of
from oracle import one_thread

PUBLIC = {"o": 1e-3, "ht": 1e-3, "d": 1e-3}  # of fla-core; rounding to bfloat16 alone gives 1.7e-3
ROUNDING = {torch.bfloat16: 4e-3, torch.float16: 1e-3}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
SHAPES = [(1, 1, 8, 4), (2, 3, 24, 4), (2, 64, 128, 3), (2, 130, 100, 4), (1, 20, 30, 2), (2, 7, 16, 1)]


def conv1d(x, weight, bias, activation, past):
    """The definition, in the dtype of its inputs: x [B, T, D], past [B, D, W]."""
    W = weight.shape[1]
    past = x.new_zeros(x.shape[0], x.shape[2], W) if past is None else past
    padded = torch.cat([past[..., 1:], x.transpose(1, 2)], -1)
    y = F.conv1d(padded, weight.unsqueeze(1), bias, groups=weight.shape[0]).transpose(1, 2)
    return F.silu(y) if activation else y


def tolerance(name, dtype):
    return ROUNDING.get(dtype) or tolerance_of(name, PUBLIC, dtype)


def check(named, ours, y, expect):
    """Compares y and its gradients with those of expect(leaves) in float64."""
    dtype, d_y = y.dtype, torch.randn_like(y)
    with one_thread():
        wide = leaves(named, torch.float64)
        expected = expect(wide)
        gradients = torch.autograd.grad(expected, list(wide.values()), d_y.double(), materialize_grads=True)
    assert_close("y", expected, y, tolerance("o", dtype))
    for name, a, b in zip(named, gradients, torch.autograd.grad(y, list(ours.values()), d_y)):
        assert_close(f"d{name}", a, b, tolerance(f"d{name}", dtype))


def drawn(B, T, D, W, dtype, N=None):
    named = {"x": torch.randn(B, T, D), "weight": torch.randn(D, W), "bias": torch.randn(D),
             "initial_state": torch.randn(N or B, D, W)}
    return {name: x.to(dtype) for name, x in named.items()}


def leaves(named, dtype=None):
    return {name: x.to(dtype or x.dtype).detach().requires_grad_() for name, x in named.items()}


@DTYPES
@pytest.mark.parametrize("activation", [None, "silu", "swish"])
@pytest.mark.parametrize("optional", [("bias", "initial_state"), ("bias",), ("initial_state",), ()], ids=str)
@pytest.mark.parametrize("B, T, D, W", SHAPES)
def test_fixed(B, T, D, W, optional, activation, dtype):
    named = {name: x for name, x in drawn(B, T, D, W, dtype).items() if name in ("x", "weight", *optional)}
    ours = leaves(named)
    y, last = klab.causal_conv1d(**ours, activation=activation, output_final_state=True)
    past = named.get("initial_state", torch.zeros(B, D, W, dtype=dtype))
    assert y.dtype == dtype and last.dtype == dtype
    assert torch.equal(last, torch.cat([past, named["x"].transpose(1, 2)], -1)[..., -W:])
    check(named, ours, y, lambda wide: conv1d(wide["x"], wide["weight"], wide.get("bias"), activation,
                                              wide.get("initial_state")))


@DTYPES
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("cuts", [[0, 1, 3, 9, 40], [0, 15]], ids=str)
def test_packed(cuts, with_state, dtype):
    """Packed sequences give the same outputs, states and gradients as each sequence alone."""
    named = drawn(1, cuts[-1], 24, 4, dtype, N=len(cuts) - 1)
    if not with_state:
        del named["initial_state"]
    ours, sequences = leaves(named), list(enumerate(zip(cuts, cuts[1:])))
    y, last = klab.causal_conv1d(**ours, activation="silu", cu_seqlens=torch.tensor(cuts), output_final_state=True)
    for n, (start, end) in sequences:
        past = named["initial_state"][n:n + 1] if with_state else torch.zeros(1, 24, 4, dtype=dtype)
        assert torch.equal(last[n:n + 1], torch.cat([past, named["x"][:, start:end].transpose(1, 2)], -1)[..., -4:])

    def alone(wide):
        return torch.cat([conv1d(wide["x"][:, start:end], wide["weight"], wide["bias"], True,
                                 wide["initial_state"][n:n + 1] if with_state else None)
                          for n, (start, end) in sequences], 1)

    check(named, ours, y, alone)


@pytest.mark.parametrize("cut", [1, 2, 5, 19])
def test_a_sequence_in_two_parts(cut):
    """Outputs and gradients, including those through the state passed from the first part to the second."""
    named = leaves({name: x for name, x in drawn(2, 20, 16, 4, torch.float32).items() if name != "initial_state"})
    whole, last = klab.causal_conv1d(**named, activation="silu", output_final_state=True)
    rest = {name: x for name, x in named.items() if name != "x"}
    first, state = klab.causal_conv1d(named["x"][:, :cut], **rest, activation="silu", output_final_state=True)
    second, end = klab.causal_conv1d(named["x"][:, cut:], **rest, activation="silu", initial_state=state,
                                     output_final_state=True)
    assert_close("y", whole, torch.cat([first, second], 1), 1e-6)
    assert torch.equal(last, end)
    d_y = torch.randn_like(whole)
    for a, b in zip(torch.autograd.grad(whole, list(named.values()), d_y),
                    torch.autograd.grad(torch.cat([first, second], 1), list(named.values()), d_y)):
        assert_close("gradient", a, b, 1e-5)


def test_residual_and_heads():
    """x may be [B, T, H, K]; a residual is added after the activation."""
    x, weight = torch.randn(2, 9, 3, 8), torch.randn(24, 4)
    flat = klab.causal_conv1d(x.flatten(2), weight, activation="silu")[0]
    y, state = klab.causal_conv1d(x, weight, activation="silu", residual=x)
    assert state is None and torch.equal(y, flat.view_as(x) + x)


@pytest.mark.parametrize("layout", ["channels first", "sliced"])
def test_strides_do_not_matter(layout):
    x, weight = torch.randn(2, 33, 24), torch.randn(24, 4)
    other = (x.transpose(1, 2).contiguous().transpose(1, 2) if layout == "channels first"
             else torch.cat([torch.full_like(x, torch.nan), x], 2)[..., 24:])
    expected, actual = klab.causal_conv1d(x, weight)[0], klab.causal_conv1d(other, weight)[0]
    assert torch.equal(expected, actual) and actual.is_contiguous()


@DTYPES
@pytest.mark.parametrize("activation", ["sigmoid", "swish", "none"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (2, 33, 3, 60), (2, 5, 4, 128), (3, 256)], ids=str)
def test_gated_rms_norm(shape, activation, dtype):
    """x / rms(x) weight act(gate), rounded once."""
    act = {"sigmoid": torch.sigmoid, "swish": F.silu, "none": lambda gate: torch.ones_like(gate)}[activation]
    named = {"x": torch.randn(shape), "weight": torch.rand(shape[-1:]) + .5, "gate": torch.randn(shape)}
    named = {name: x.to(dtype) for name, x in named.items()}
    ours = leaves(named)
    y = torch.ops.klab.gated_rms_norm(*ours.values(), activation, 1e-5)

    def expect(wide):
        x = wide["x"]
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * wide["weight"] * act(wide["gate"])

    assert y.dtype == dtype
    check(named, ours, y, expect)

# SPDX-License-Identifier: Apache-2.0
"""Tests of compare.py: results that must be rejected are rejected."""

import compare
import pytest
import torch


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_not_finite_fails(broken, side):
    pair = [torch.ones(5), torch.ones(5)]
    pair[side][3] = broken
    with pytest.raises(AssertionError, match="not finite"):
        compare.assert_close("x", *pair, 1e9)


def test_both_not_finite_fails():
    with pytest.raises(AssertionError, match="not finite"):
        compare.assert_close("x", torch.full((3,), torch.nan), torch.full((3,), torch.nan), 1e9)


def test_shapes_that_broadcast_fail():
    with pytest.raises(AssertionError, match="shape"):
        compare.assert_close("x", torch.ones(3, 1), torch.ones(3, 3), 1.0)


def test_just_too_far_fails():
    x = torch.randn(1000)
    compare.assert_close("x", x, x * 1.0009, 1e-3)
    with pytest.raises(AssertionError, match="error ratio 0.0011"):
        compare.assert_close("x", x, x * 1.0011, 1e-3)


def test_swapped_rows_fail():
    x = torch.randn(4, 64)
    with pytest.raises(AssertionError, match="error ratio"):
        compare.assert_close("x", x, x.flip(0), .1)


def test_zero_where_something_is_expected_fails():
    with pytest.raises(AssertionError, match="error ratio"):
        compare.assert_close("x", torch.full((8,), 1e-5), torch.zeros(8), .1)


def test_float32_is_held_ten_times_tighter():
    public = {"o": .005, "d": .02}
    assert compare.tolerance_of("o", public, torch.bfloat16) == .005
    assert compare.tolerance_of("o", public, torch.float32) == 5e-4
    assert compare.tolerance_of("dq", public, torch.float32) == 1e-3
    assert compare.tolerance_of("dq", {"d": .002}, torch.float32) == pytest.approx(2e-4)

# SPDX-License-Identifier: Apache-2.0
"""The comparison that all these tests use: relative error, RMS(difference) / RMS(expected)."""

import torch

# The tests pass fla-core's tolerances by name: "o" output, "ht" final state, "dq" gradient of q, "d" other gradients.
FLOAT32_OUTPUT, FLOAT32_GRADIENT = 5e-4, 1e-3  # upper bounds in float32: a tenth of the usual public tolerances


def error_ratio(expected, actual):
    """RMS(expected - actual) / RMS(expected), in float64."""
    expected, actual = expected.detach().double(), actual.detach().double()
    return ((expected - actual).square().mean().sqrt() / (expected.square().mean().sqrt() + 1e-8)).item()


def assert_close(name, expected, actual, tolerance, absolute=1e-7):
    """Asserts equal shapes, finite values, and error_ratio() < tolerance or a maximum difference of at most `absolute`
    (for results that are zero)."""
    assert expected.shape == actual.shape, f"{name}: shape {list(actual.shape)}, expected {list(expected.shape)}"
    for side, x in (("expected", expected), ("actual", actual)):
        bad = (~torch.isfinite(x.detach())).sum().item()
        assert bad == 0, f"{name}: {bad} of {x.numel()} {side} values are not finite"
    if expected.numel() == 0 or (expected.detach().double() - actual.detach().double()).abs().max() <= absolute:
        return
    ratio = error_ratio(expected, actual)
    if not ratio < tolerance:
        worst = (expected.detach().double() - actual.detach().double()).abs().flatten().argmax()
        index = [int(i) for i in torch.unravel_index(worst, expected.shape)]
        raise AssertionError(f"{name}: error ratio {ratio:.3g}, allowed {tolerance:.3g}; the worst is at {index}: "
                             f"{actual.flatten()[worst].item():.9g}, expected {expected.flatten()[worst].item():.9g}")


def tolerance_of(name, public, dtype):
    """fla-core's tolerance for float16 and bfloat16; a tenth of it, or less, for float32."""
    tolerance = public.get(name, public["d"])
    if dtype in (torch.float16, torch.bfloat16):
        return tolerance
    return min(tolerance / 10, FLOAT32_GRADIENT if name.startswith("d") else FLOAT32_OUTPUT)

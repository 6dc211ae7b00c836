"""The one comparison of these tests: error over size, both as root mean squares. Nothing makes it lenient."""

import torch

# fla-core's tolerances for its kernels, by what is compared: "o", "ht", "dq", ... and "d" for every other gradient.
FLOAT32_OUTPUT, FLOAT32_GRADIENT = 5e-4, 1e-3  # the most allowed in float32: ten times below the usual public ones


def error_ratio(expected, actual):
    """RMS(expected - actual) / RMS(expected), in float64."""
    expected, actual = expected.detach().double(), actual.detach().double()
    return ((expected - actual).square().mean().sqrt() / (expected.square().mean().sqrt() + 1e-8)).item()


def assert_close(name, expected, actual, tolerance, absolute=1e-7):
    """Shapes equal, nothing but finite numbers, and error_ratio() < tolerance; `absolute` is for results that are zero."""
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
    """The public tolerance for half precision; a tenth of it, or less, for float32."""
    tolerance = public.get(name, public["d"])
    if dtype in (torch.float16, torch.bfloat16):
        return tolerance
    return min(tolerance / 10, FLOAT32_GRADIENT if name.startswith("d") else FLOAT32_OUTPUT)

# SPDX-License-Identifier: Apache-2.0
"""Every C++ mixer and the mixture of experts against reference implementations (mixers.py): output, and gradients of the
input and of every parameter. In float32, the dtype of the C++ kernels; the first case of each reference also in float64,
which detects slightly different constants."""

import os
import pathlib
import subprocess
import zlib

import pytest
import torch
from safetensors.torch import load_file, save_file

import mixers
import oracle
from compare import assert_close
from conftest import ROOT

PROGRAM = pathlib.Path(os.environ.get("KLAB_RUN_MODULE", ROOT / "build" / "tests" / "support" / "run_module"))
OUTPUT = {torch.float64: 1e-11, torch.float32: 5e-6}
GRADIENT = {torch.float64: 1e-11, torch.float32: 5e-5}
ABSOLUTE = {torch.float64: 1e-13, torch.float32: 1e-7}  # for results that are zero
NOT_OURS = {"interleave"}  # settings of a reference implementation that are not options in C++

CASES = [case for cases in mixers.YARDSTICKS.values() for case in cases]


def drawn(case):
    """x, dy, and parameters that are created on first use; the same in every run."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.id().encode()))
    s = case.sizes
    x, dy = (torch.randn(s.B, s.T, s.D, generator=generator).double() for _ in range(2))
    return x.requires_grad_(), dy, mixers.Parameters(generator)


def expected_of(case):
    """(inputs of the module, expected outputs y, d_x and d_param.NAME)."""
    x, dy, p = drawn(case)
    with oracle.one_thread():
        y = mixers.run(case, p, x)
        assert y.dtype == torch.float64
        leaves = {"d_x": x, **{f"d_param.{name}": leaf for name, leaf in p.drawn.items() if leaf.requires_grad}}
        gradients = torch.autograd.grad(y, list(leaves.values()), dy, materialize_grads=True)
    given = {"x": x, "dy": dy, **{f"param.{name}": leaf for name, leaf in p.drawn.items()}}
    return given, {"y": y.detach(), **dict(zip(leaves, gradients))}


def run_module(case, given, dtype, folder):
    def written(value):
        return str(value).lower() if isinstance(value, bool) else str(value)

    options = {f"option.{key}": written(value) for key, value in case.options.items() if key not in NOT_OURS}
    sizes = {"width": case.sizes.D, "heads": case.sizes.H, "head_dim": case.sizes.K}
    save_file({name: x.detach().to(dtype).contiguous() for name, x in given.items()}, folder / "in",
              {"module": case.mixer, **{name: str(size) for name, size in sizes.items()}, **options})
    done = subprocess.run([PROGRAM, folder / "in", folder / "out"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return load_file(folder / "out")


def compare(expected, actual, dtype):
    assert actual.keys() <= expected.keys(), f"not in the reference: {sorted(actual.keys() - expected.keys())}"
    for name, tensor in expected.items():
        tolerance = (GRADIENT if name.startswith("d_") else OUTPUT)[dtype]
        # An expert without tokens has no gradient.
        assert_close(name, tensor, actual.get(name, torch.zeros_like(tensor)), tolerance, ABSOLUTE[dtype])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # no shared experts
@pytest.mark.parametrize("case", CASES, ids=mixers.Case.id)
def test_mixer(modeling, case, tmp_path):
    given, expected = expected_of(case)
    for dtype in (torch.float64, torch.float32) if case.first else (torch.float32,):
        compare(expected, run_module(case, given, dtype, tmp_path), dtype)


def test_every_mixer_has_a_yardstick():
    """Skips with the list of mixers that have no function in mixers.py yet."""
    listed = subprocess.run([PROGRAM.parents[2] / "bin" / "klab", "model", "--list"], capture_output=True, text=True,
                            check=True, timeout=60).stdout.split()
    assert len(listed) >= 18 and set(mixers.YARDSTICKS) <= {*listed, "moe"}
    if missing := set(listed) - set(mixers.YARDSTICKS):
        pytest.skip(f"no reference implementation yet: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("mixer, name", [("kda", "param.dt_bias"), ("mamba2", "param.conv.bias"),
                                         ("moe", "param.shared.down_proj.weight")])
def test_a_wrong_parameter_is_seen(modeling, mixer, name, tmp_path):
    """A change of 1e-3 in one element of a parameter fails at y; a change of 0.1 % in dy fails at d_x."""
    case = mixers.YARDSTICKS[mixer][0]
    given, expected = expected_of(case)
    wrong = given[name].detach().clone()
    wrong.flatten()[0] += 1e-3
    for change, seen in (({name: wrong}, "y"), ({"dy": given["dy"] * 1.001}, "d_x")):
        with pytest.raises(AssertionError, match=f"^{seen}: error ratio"):
            compare(expected, run_module(case, {**given, **change}, torch.float32, tmp_path), torch.float32)

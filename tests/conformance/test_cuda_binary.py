"""What the compiler made of the CUDA kernels, read off the built library: nothing is spilled where that is claimed, and
products run on the tensor cores."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

LIBRARY = os.environ.get("KLAB_LIBRARY", "")
ARCHITECTURES = ("sm_80", "sm_90")

# Kernels of a walk along the sequence, keys of 64 and 128 channels: everything that repeats lives in registers.
CLAIMED = re.compile(r"(forward|reverse)_kernelI.*?Lb[01]ELi(64|128)E")
FEW_BYTES = 16  # a kernel may save a register or two once, outside its loops


def cuobjdump():
    if found := shutil.which("cuobjdump"):
        return found
    triton = pytest.importorskip("triton", reason="neither the CUDA toolkit's cuobjdump nor triton's is here")
    return pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def dump(*options):
    done = subprocess.run([cuobjdump(), *options, LIBRARY], capture_output=True, text=True, check=False)
    if "does not contain device code" in done.stdout + done.stderr:
        pytest.skip("the library was built without CUDA")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stacks():
    """{(architecture, kernel): bytes of stack}: spilled registers live there."""
    sizes, architecture = {}, None
    for line in dump("--dump-resource-usage").splitlines():
        if found := re.search(r"arch = (sm_\d+)", line):
            architecture = found[1]
        if found := re.search(r"Function (\S+):", line):
            kernel = found[1]
        if found := re.search(r"STACK:(\d+)", line):
            sizes[architecture, kernel] = int(found[1])
    return sizes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_walks_spill_nothing(stacks, architecture):
    claimed = {kernel: size for (built_for, kernel), size in stacks.items()
               if built_for == architecture and CLAIMED.search(kernel)}
    portable, hopper = 2 * 3 * 2 * 2, 2 * 2 * 2  # passes (both; forward) x operands x with and without DPLR x widths
    assert len(claimed) == portable + hopper, sorted(claimed)
    spilling = {kernel: size for kernel, size in claimed.items() if size > FEW_BYTES}
    assert not spilling


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_products_run_on_tensor_cores(architecture):
    kernels = re.split(r"Function : ", dump("--dump-sass", "--gpu-architecture", architecture))[1:]
    walks = {name: text for name, text in (kernel.split("\n", 1) for kernel in kernels) if CLAIMED.search(name)}
    hopper = {name for name in walks if "WarpgroupOperand" in name}
    assert hopper and len(hopper) < len(walks)
    for name, text in walks.items():
        assert re.search(r"\bHMMA\.", text) or architecture == "sm_80" and name in hopper, name
    for name in hopper:
        assert bool(re.search(r"\bHGMMA\.", walks[name])) == (architecture == "sm_90"), name

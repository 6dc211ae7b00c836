# SPDX-License-Identifier: Apache-2.0
"""Inspects the compiled CUDA kernels: no register spills in the recurrence kernels, matrix products on tensor cores. Uses
the built library for the architectures in it; for other architectures, or where the library was compiled fast
(NVCC_APPEND_FLAGS with --Ofast-compile), kernels are compiled here (one source file by default, all with --slow)."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

LIBRARY = pathlib.Path(os.environ.get("KLAB_LIBRARY", "")).with_name("libklab_cuda.so")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGETS = {"sm_80": "arch=compute_80,code=sm_80", "sm_90": "arch=compute_90a,code=sm_90a"}

# Recurrence kernels that loop over the sequence, bfloat16, K = 64 and 128: their working set must stay in registers.
CLAIMED = re.compile(r"(forward|reverse)_kernelI.*Bfloat16.*?Lb[01]ELi(64|128)E")
FAST = "--Ofast-compile" in os.environ.get("NVCC_APPEND_FLAGS", "")
FEW_BYTES = 16  # allows a spill of one or two registers outside the loops


def cuobjdump():
    if found := shutil.which("cuobjdump"):
        return found
    triton = pytest.importorskip("triton", reason="neither the CUDA toolkit's cuobjdump nor triton's is installed")
    return pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def dump(file, *options):
    done = subprocess.run([cuobjdump(), *options, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stacks_of(file):
    """{(architecture, kernel): stack size in bytes}; registers spill to the stack."""
    sizes, architecture = {}, None
    for line in dump(file, "--dump-resource-usage").splitlines():
        if found := re.search(r"arch = (sm_\d+)", line):
            architecture = found[1]
        if found := re.search(r"Function (\S+):", line):
            kernel = found[1]
        if found := re.search(r"STACK:(\d+)", line):
            sizes[architecture, kernel] = int(found[1])
    return sizes


@pytest.fixture(scope="module")
def stacks():
    """stacks_of() the built library; empty if the build has no CUDA kernels or compiled them fast."""
    return stacks_of(LIBRARY) if LIBRARY.is_file() and not FAST else {}


def need(stacks, architecture):
    if not any(built_for == architecture for built_for, _ in stacks):
        pytest.skip(f"the library was not built for {architecture} (KLAB_CUDA_ARCHITECTURES), or fast (NVCC_APPEND_FLAGS)")


def spilling(stacks, architecture):
    return {kernel: size for (built_for, kernel), size in stacks.items()
            if built_for == architecture and CLAIMED.search(kernel) and size > FEW_BYTES}


@pytest.mark.parametrize("architecture", TARGETS)
def test_walks_spill_nothing(stacks, architecture):
    need(stacks, architecture)
    portable, hopper = 2 * 2 * 2, 2 * 2  # passes (both; forward) x with and without DPLR x widths
    claimed = [kernel for built_for, kernel in stacks if built_for == architecture and CLAIMED.search(kernel)]
    assert len(claimed) == portable + hopper, claimed
    assert not spilling(stacks, architecture)


@pytest.mark.parametrize("architecture", TARGETS)
def test_products_run_on_tensor_cores(stacks, architecture):
    need(stacks, architecture)
    kernels = re.split(r"Function : ", dump(LIBRARY, "--dump-sass", "--gpu-architecture", architecture))[1:]
    walks = {name: text for name, text in (kernel.split("\n", 1) for kernel in kernels) if CLAIMED.search(name)}
    hopper = {name for name in walks if "WarpgroupOperand" in name}
    assert hopper and len(hopper) < len(walks)
    for name, text in walks.items():
        assert re.search(r"\bHMMA\.", text) or architecture == "sm_80" and name in hopper, name
    for name in hopper:
        assert bool(re.search(r"\bHGMMA\.", walks[name])) == (architecture == "sm_90"), name  # warpgroup MMA


def sources():
    for path in sorted((ROOT / "kernels").glob("*/cuda/*.cu")):
        quick = path.stem == "recurrence_forward_bfloat16"
        yield pytest.param(path, id=path.stem, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize("architecture", TARGETS)
@pytest.mark.parametrize("source", list(sources()))
def test_sources_compile_without_spills(stacks, architecture, source, tmp_path):
    if any(built_for == architecture for built_for, _ in stacks):
        pytest.skip(f"the library has its kernels for {architecture}")
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("there is no nvcc")
    import torch

    include = pathlib.Path(torch.__file__).parent / "include"
    cubin = tmp_path / "kernels.cubin"
    optimised = {name: value for name, value in os.environ.items() if name != "NVCC_APPEND_FLAGS"}
    subprocess.run([nvcc, "-cubin", "-O3", "-std=c++20", "--expt-relaxed-constexpr", "-gencode", TARGETS[architecture],
                    f"-I{ROOT}", "-isystem", include, source, "-o", cubin], check=True, env=optimised)
    assert not spilling(stacks_of(cubin), architecture)

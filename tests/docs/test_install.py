# SPDX-License-Identifier: Apache-2.0
"""Installed copies of klab: the C++ package, the program, and the Python wheel built from the source distribution."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

COMMANDS = os.environ.get("KLAB_COMPILE_COMMANDS", "")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROJECT = ROOT / "tests" / "install"
BUILD = pathlib.Path(COMMANDS).parent

needs_build = pytest.mark.skipif(not COMMANDS, reason="KLAB_COMPILE_COMMANDS is not set")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cache():
    return dict(re.findall(r"^(\w+):\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE))


@needs_build
def test_a_project_uses_the_installed_kernels(tmp_path):
    """`cmake --install` and find_package(klab): a C++ project outside the tree compiles against the kernels and runs."""
    known = cache()
    cmake = known["CMAKE_COMMAND"]
    run(cmake, "--install", BUILD, "--prefix", tmp_path / "installed", "--component", "cpp")
    run(cmake, "-S", PROJECT, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}",
        f"-DCMAKE_MAKE_PROGRAM={known['CMAKE_MAKE_PROGRAM']}", f"-DKLAB_TORCH_DIR={known['KLAB_TORCH_DIR']}")
    run(cmake, "--build", tmp_path / "build")
    assert run(tmp_path / "build" / "uses_klab").strip() == "[1, 33, 2, 32] [1, 2, 16, 32]"


@needs_build
def test_the_installed_program_needs_no_source_tree(tmp_path):
    run(cache()["CMAKE_COMMAND"], "--install", BUILD, "--prefix", tmp_path / "installed", "--component", "program")
    program = tmp_path / "installed" / "bin" / "klab"
    for folder in ("configs", "figures"):
        assert str(ROOT / "experiments" / folder).encode() not in program.read_bytes()
    assert "klab" in run(program, "--version", cwd=tmp_path)
    run(program, "train", "--task.name", "copy", "--task.length", "9", "--train.steps", "2", "--train.eval_every", "1",
        "--train.eval_examples", "4", "--model.layers", "1", "--out", tmp_path / "run", cwd=tmp_path)
    assert (tmp_path / "run" / "record.json").exists()


@needs_build
@pytest.mark.slow
def test_a_wheel_is_built_from_the_source_distribution(tmp_path):
    """Builds both with the tools of this Python, without network; the wheel's operators run."""
    for tool in ("build", "scikit_build_core"):
        pytest.importorskip(tool)
    environment = {**os.environ, "PATH": f"{pathlib.Path(cache()['CMAKE_COMMAND']).parent}:{os.environ['PATH']}"}
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT, env=environment)
    (archive,) = tmp_path.glob("klab-*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, archive,
        env=environment, cwd=tmp_path)
    (wheel,) = tmp_path.glob("klab-*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel)
    code = ("import klab, torch; q = torch.randn(1, 5, 2, 8); g = -torch.rand(1, 5, 2, 8);"
            "o, s = klab.chunk_kda(q, q, q, g, torch.rand(1, 5, 2), output_final_state=True);"
            "print(klab.__file__, tuple(o.shape), tuple(s.shape), bool(o.isfinite().all()))")
    clean = {name: value for name, value in environment.items() if not name.startswith("KLAB_")}
    printed = run(sys.executable, "-c", code, cwd=tmp_path, env={**clean, "PYTHONPATH": str(tmp_path / "site")})
    assert printed.split(" ", 1) == [str(tmp_path / "site" / "klab" / "__init__.py"), "(1, 5, 2, 8) (1, 2, 8, 8) True\n"]

"""`cmake --install` and find_package(klab): a C++ project outside the tree compiles against the installed kernels and runs."""

import os
import pathlib
import re
import subprocess

import pytest

COMMANDS = os.environ.get("KLAB_COMPILE_COMMANDS", "")
PROJECT = pathlib.Path(__file__).resolve().parent.parent / "install"


@pytest.mark.skipif(not COMMANDS, reason="KLAB_COMPILE_COMMANDS names no build")
def test_a_project_uses_the_installed_kernels(tmp_path):
    build = pathlib.Path(COMMANDS).parent
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE))
    cmake = cache["CMAKE_COMMAND"]

    def run(*command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(cmake, "--install", build, "--prefix", tmp_path / "installed", "--component", "cpp")
    run(cmake, "-S", PROJECT, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}",
        f"-DCMAKE_MAKE_PROGRAM={cache['CMAKE_MAKE_PROGRAM']}", f"-DKLAB_TORCH_DIR={cache['KLAB_TORCH_DIR']}")
    run(cmake, "--build", tmp_path / "build")
    assert run(tmp_path / "build" / "uses_klab").strip() == "[1, 33, 2, 32] [1, 2, 16, 32]"

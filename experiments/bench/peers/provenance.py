# SPDX-License-Identifier: Apache-2.0
"""Results files in the format of the klab program, with a header: version and commit, machine, libraries, command."""

import csv
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512-BF16", "amx_tile": "AMX"}


def commit():
    describe = ["git", "describe", "--always", "--exclude", "*", "--dirty=+"]
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def processor():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", info, re.MULTILINE)
    sets = [name for flag, name in SETS.items() if flags and flag in flags[1].split()]
    return (model[1] if model else platform.machine()) + (f" with {' '.join(sets)}" if sets else "")


def header(script, threads, libraries):
    """Comment lines. `script` is relative to the root; `libraries` are modules with a __version__."""
    version = re.search(r"project\(klab VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    versions = ", ".join([f"{module.__name__} {module.__version__}" for module in libraries] + [f"Python {platform.python_version()}"])
    return [f"# klab {version[1] if version else 'unknown'} commit {commit()}",
            f"# machine: {processor()}, {os.cpu_count()} cores, {threads} threads used",
            f"# libraries: {versions}",
            f"# command: {shlex.join(['python', script, *sys.argv[1:]])}"]


def write_rows(path, comments, rows, digits):
    """Writes dictionaries with the same keys as CSV, floats with that many significant digits."""
    def cell(value):
        return f"{value:.{digits}g}" if isinstance(value, float) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        file.writelines(f"{line}\n" for line in comments)
        csv.writer(file).writerows([list(rows[0]), *[[cell(value) for value in row.values()] for row in rows]])

# SPDX-License-Identifier: Apache-2.0
"""Static checks: clang-format over every source (.cu and .cuh too), clang-tidy over every .cpp of the build, and that
every test file is in the build. Prints one line per check; exits 1 when one fails, 77 when a tool is missing.

    tests/lint.py [--changed] BUILD

--changed: clang-tidy only over the files that differ from the main branch (or, on it, from the commit before), and no
new file after two minutes; the line of the check says how many were left out.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["kernels", "core", "mixers", "tasks", "experiments", "tests"]
CLANG = "14"  # another version of clang-format lays out differently
LIMIT_SECONDS = 120  # of --changed
MISSING = 77


def sources(*endings):
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in endings)


def tool(name):
    return shutil.which(f"{name}-{CLANG}") or shutil.which(name)


def check_format():
    done = subprocess.run([tool("clang-format"), "--dry-run", "-Werror", *sources(".h", ".cpp", ".cu", ".cuh")],
                          capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr[:4000]


def check_tests_are_built(commands):
    built = {pathlib.Path(entry["file"]).resolve() for entry in commands}
    apart = ROOT / "tests" / "install"  # a project of its own
    forgotten = [str(path) for path in (ROOT / "tests").rglob("*.cpp") if path.resolve() not in built and apart not in path.parents]
    return not forgotten, "not in the build: " + ", ".join(forgotten)


def without_gcc_pch(command):
    """clang cannot read gcc's precompiled headers; every file includes what it needs by itself."""
    return re.sub(r"-Winvalid-pch|-include \S*cmake_pch\.hxx", "", command)


def commands_per_file(build, folder):
    """The compile commands of a build that compiles every file by itself (KLAB_UNITY=off); it is configured, not built."""
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE))
    subprocess.run([cache["CMAKE_COMMAND"], "-S", ROOT, "-B", folder, "-G", "Ninja", "-DKLAB_UNITY=off", "-DCMAKE_BUILD_TYPE=Release",
                    *(f"-D{name}={cache[name]}" for name in ("CMAKE_MAKE_PROGRAM", "KLAB_TORCH_DIR"))],
                   check=True, capture_output=True)
    return json.loads((folder / "compile_commands.json").read_text())


def git(*words):
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def changed_files():
    """The sources that differ from the main branch, or from the commit before when the main branch is checked out."""
    head, base = git("rev-parse", "HEAD"), git("merge-base", "HEAD", "origin/main")
    since = base if base and base != head else ["HEAD~1"]
    return {str(ROOT / name) for name in git("diff", "--name-only", *since) + git("ls-files", "--others", "--exclude-standard")}


def check_tidy(commands, folder, changed):
    own = [entry for entry in commands if entry["file"].endswith(".cpp") and not entry["file"].startswith(str(folder))]
    if changed is not None:
        own = [entry for entry in own if entry["file"] in changed]
    database = [dict(entry, command=without_gcc_pch(entry["command"])) for entry in own]
    (folder / "compile_commands.json").write_text(json.dumps(database))
    end = time.monotonic() + LIMIT_SECONDS

    def tidy(entry):
        if changed is not None and time.monotonic() > end:
            return None
        return subprocess.run([tool("clang-tidy"), "--quiet", "-p", folder, entry["file"]],
                              capture_output=True, text=True, check=False)

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(tidy, own))
    checked = [one for one in done if one is not None]
    failed = [one for one in checked if one.returncode != 0]
    name = f"tidy ({len(checked)} files" + (f", {len(done) - len(checked)} more left out: time limit)" if len(checked) < len(done) else ")")
    return name, (not failed, "\n".join(one.stdout + one.stderr for one in failed)[:8000])


def checks(build, changed):
    """Yields (name, (passed, text)) for every check whose tool is there, and (name, None) for the others."""
    yield "format", check_format() if tool("clang-format") else None
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        commands = commands_per_file(build, folder)
        yield "every test is built", check_tests_are_built(commands)
        if tool("clang-tidy"):
            yield check_tidy(commands, folder, changed)
        else:
            yield "tidy", None


def main():
    changed = changed_files() if "--changed" in sys.argv else None
    failed = missing = False
    for name, result in checks(pathlib.Path(sys.argv[-1]).resolve(), changed):
        if result is None:
            missing = True
            print(f"{name}: not installed (clang-{name} {CLANG})")
        else:
            failed = failed or not result[0]
            print(f"{name}: {'ok' if result[0] else 'FAILED'}")
            if not result[0]:
                print(result[1])
    sys.exit(1 if failed else MISSING if missing else 0)


if __name__ == "__main__":
    main()

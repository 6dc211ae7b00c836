"""Static checks: clang-format over every source (.cu and .cuh too), clang-tidy over every .cpp of the build, and that
every test file is in the build. Prints one line per check; exits 1 when one fails, 77 when a tool is missing.

    tests/lint.py [--format] BUILD      # --format: the first check alone
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["kernels", "core", "mixers", "tasks", "experiments", "tests"]
CLANG = "14"  # another version of clang-format lays out differently


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
                   check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "compile_commands.json").read_text())


def check_tidy(commands, folder):
    own = [entry for entry in commands if entry["file"].endswith(".cpp") and not entry["file"].startswith(str(folder))]
    database = [dict(entry, command=without_gcc_pch(entry["command"])) for entry in own]
    (folder / "compile_commands.json").write_text(json.dumps(database))

    def tidy(entry):
        return subprocess.run([tool("clang-tidy"), "--quiet", "-p", folder, entry["file"]],
                              capture_output=True, text=True, check=False)

    with ThreadPoolExecutor() as pool:
        failed = [done for done in pool.map(tidy, own) if done.returncode != 0]
    return not failed, "\n".join(done.stdout + done.stderr for done in failed)[:8000]


def main():
    format_only = "--format" in sys.argv
    build = pathlib.Path(sys.argv[-1]).resolve()
    missing = [name for name in ("clang-format", "clang-tidy")[:1 if format_only else 2] if not tool(name)]
    if missing:
        print(f"not installed: {', '.join(missing)} (version {CLANG})")
        sys.exit(77)
    checks = [("format", check_format())]
    if not format_only:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name).resolve()
            commands = commands_per_file(build, folder)
            checks += [("every test is built", check_tests_are_built(commands)), ("tidy", check_tidy(commands, folder))]
    good = True
    for name, (passed, text) in checks:
        print(f"{name}: {'ok' if passed else 'FAILED'}")
        if not passed:
            good = False
            print(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Builds the fuzz targets with clang and libFuzzer and runs them: a line per target, and for every finding a file in
out/fuzz/<target>/. Exits 1 when there is one, 77 when clang or libFuzzer is missing.

    tests/fuzz/run.py BUILD [--fuzz [SECONDS]] [--filter PATTERN]

BUILD is a configured build of ./klab; the targets are built in build-fuzz/. An input that was found belongs, with its
fix, into tests/fuzz/found/<target>/: every test run repeats it. What a target has learnt stays in
out/fuzz/<target>/corpus and is used by later runs.
"""

import argparse
import concurrent.futures
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build-fuzz"
COMPILER = "clang++-14"
MISSING = 77
DEFAULT_SECONDS = 60
# The memory of a process and of one allocation, in MiB, and seconds for one input. What one input may need is far less.
LIMITS = ("-rss_limit_mb=4096", "-malloc_limit_mb=256", "-timeout=25")
# YAML's aliases can make cycles, whose memory is never freed.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def arguments():
    parser = argparse.ArgumentParser(prog="./klab test --fuzz", description="Fuzzes the parsers of files and options.")
    parser.add_argument("build", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--fuzz", type=int, nargs="?", const=DEFAULT_SECONDS, default=DEFAULT_SECONDS, metavar="SECONDS",
                        help=f"seconds per target (default: {DEFAULT_SECONDS})")
    parser.add_argument("--filter", default="*", metavar="PATTERN", help="names of the targets to run ('tok*')")
    parser.add_argument("--all", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fuzz < 1:
        parser.error(f"--fuzz {options.fuzz}: a target needs at least one second")
    return options


def missing_tool():
    """What is not installed, or ""."""
    if not shutil.which(COMPILER):
        return COMPILER
    done = subprocess.run([COMPILER, "-print-runtime-dir"], capture_output=True, text=True, check=False)
    runtime = pathlib.Path(done.stdout.strip())
    older = runtime.parent / "linux"  # where clang 14 has it unless it was built per target
    found = [path for folder in (runtime, older) for path in folder.glob("libclang_rt.fuzzer*.a")]
    return "" if found else "libFuzzer (libclang-rt-14-dev)"


def targets(pattern):
    names = sorted(path.name for path in (FOLDER / "corpus").iterdir())
    chosen = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not chosen:
        sys.exit(f"no fuzz target matches '{pattern}'; there are {', '.join(names)}")
    return chosen


def checked(command, log):
    """Runs a command with its output in a log, which is shown if it fails."""
    with open(log, "a", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
        sys.exit(f"{end}\nthe fuzz targets could not be built: {log}")


def build(base, names):
    """Configures build-fuzz/ with the torch and tools of the build `base`, and builds the programs."""
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (base / "CMakeCache.txt").read_text(), re.MULTILINE))
    BUILD.mkdir(exist_ok=True)
    log = BUILD / "build.log"
    log.write_text("")
    if not (BUILD / "build.ninja").exists():
        settings = [f"-D{name}={cache[name]}" for name in ("CMAKE_MAKE_PROGRAM", "KLAB_TORCH_DIR")]
        checked([cache["CMAKE_COMMAND"], "-S", ROOT, "--preset", "fuzz", *settings], log)
    checked([cache["CMAKE_MAKE_PROGRAM"], "-C", BUILD, *(f"fuzz_{name}" for name in names)], log)


def last_number(pattern, text):
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def fuzz(name, seconds, folder):
    """Runs one target; returns whether there was no finding, and a line. `folder`: for temporary files."""
    kept = ROOT / "out" / "fuzz" / name
    corpus = kept / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(folder, name)
    here = scratch / "files"  # also the working directory: a config may name files relative to it
    here.mkdir(parents=True)
    seeds = [path for path in (FOLDER / "corpus" / name, FOLDER / "found" / name) if path.is_dir()]
    dictionary = FOLDER / "dictionaries" / f"{name}.dict"
    command = [BUILD / "fuzz" / f"fuzz_{name}", f"-max_total_time={seconds}", "-max_len=8192", "-close_fd_mask=1",
               "-print_final_stats=1", "-detect_leaks=0", f"-artifact_prefix={kept}/", *LIMITS]
    command += [f"-dict={dictionary}"] if dictionary.exists() else []
    begin = time.monotonic()
    done = subprocess.run([*command, corpus, *seeds], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=here,
                          check=False, env={**os.environ, **SANITIZERS, "TMPDIR": str(scratch)})
    text = done.stdout.decode(errors="replace")
    counts = (f"{name:<16} {last_number(r'stat::number_of_executed_units: *([0-9]+)', text):>9} executions "
              f"{time.monotonic() - begin:>5.0f} s  coverage {last_number(r'cov: ([0-9]+)', text):>6}")
    if done.returncode == 0:
        return True, counts
    (kept / "last.log").write_text(text)
    reason = re.search(r"klab: finding: .*|SUMMARY: .*|ERROR: .*", text)
    written = re.search(r"Test unit written to (\S+)", text)
    file = pathlib.Path(written.group(1)).relative_to(ROOT) if written else "no input"
    why = reason.group(0) if reason else f"exit status {done.returncode}"
    return False, f"{counts}  FOUND {file}: {why}; see {(kept / 'last.log').relative_to(ROOT)}"


def main():
    options = arguments()
    missing = missing_tool()
    if missing:
        print(f"fuzz: not installed: {missing}")
        sys.exit(MISSING)
    names = targets(options.filter)
    build(options.build, names)
    sound = True
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # targets write a file for every input
    with tempfile.TemporaryDirectory(dir=fast) as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for ok, line in pool.map(lambda name: fuzz(name, options.fuzz, folder), names):
            sound = sound and ok
            print(line, flush=True)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()

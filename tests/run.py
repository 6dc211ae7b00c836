# SPDX-License-Identifier: Apache-2.0
"""Runs every test program of a build and sums up: the closing line is `N passed, N failed, N skipped`.

    tests/run.py BUILD [--python PYTHON] [--all] [--filter PATTERN]

PYTHON runs the conformance tests; without it they count as one skipped test. --all also runs the slow tests (named Slow*,
in Python marked slow) and the static checks of lint.py. PATTERN is GoogleTest's, for example 'Recurrence*'; 'conformance'
runs the conformance tests alone. With --all and without PATTERN each fuzz target runs for a minute (fuzz/run.py).
A program that crashes or hangs counts as one failed test.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree

LIMIT_SECONDS = 1200  # for one test program
SLOW_LIMIT_SECONDS = 3600  # for the Python tests, with the slow ones
SIDE_BY_SIDE = 2
LONG = ("kernels_cuda_tests", "experiments_cli_tests", "mixers_tests", "kernels_tests")


def arguments():
    parser = argparse.ArgumentParser(prog="./klab test", description="Builds and runs every test.",
                                     epilog="--fuzz [SECONDS] runs the fuzz targets instead; ./klab test --fuzz --help")
    parser.add_argument("build", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--python", default="", help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="run the slow tests too")
    parser.add_argument("--filter", default="*", help="GoogleTest pattern of the tests to run")
    return parser.parse_args()


def run_program(program, pattern, report):
    """Runs one GoogleTest program; returns (passed, failed, skipped, output)."""
    command = [program, f"--gtest_filter={pattern}", f"--gtest_output=json:{report}", "--gtest_brief=1"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        return 0, 1, 0, (late.stdout or b"") + f"\nended after {LIMIT_SECONDS} s".encode()
    output = done.stdout
    try:
        suites = json.loads(pathlib.Path(report).read_text())["testsuites"]
    except (OSError, ValueError):
        return 0, 1, 0, output + f"\nno report: exit status {done.returncode}".encode()
    tests = [test for suite in suites for test in suite["testsuite"] if test["status"] == "RUN"]
    failed = sum(bool(test.get("failures")) for test in tests)
    skipped = sum(test["result"] == "SKIPPED" for test in tests)
    if done.returncode != 0 and failed == 0:  # died after its report was written
        failed = 1
    return len(tests) - failed - skipped, failed, skipped, output


def run_conformance(options, report):
    """The Python tests against public implementations; returns (passed, failed, skipped, output)."""
    if not options.python:
        return 0, 0, 1, b"skipped: the torch of this build belongs to no Python (KLAB_TORCH)\n"
    tests = [pathlib.Path(__file__).with_name(folder) for folder in ("conformance", "docs", "faults")]
    command = [options.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    command += ["--slow"] if options.all else []
    library = {"KLAB_FAULT_LIBRARY": str(options.build / "tests" / "support" / "libklab_faults.so"),
               "KLAB_LIBRARY": str(options.build / "lib" / "libklab_kernels.so"),
               "KLAB_PROGRAM": str(options.build / "bin" / "klab"),
               "KLAB_RUN_MODULE": str(options.build / "tests" / "support" / "run_module"),
               "KLAB_COMPILE_COMMANDS": str(options.build / "compile_commands.json"),
               "KLAB_RUN_TOKENIZER": str(options.build / "tests" / "support" / "run_tokenizer"),
               "PYTHONPATH": str(pathlib.Path(__file__).parent.parent / "python")}
    limit = SLOW_LIMIT_SECONDS if options.all else LIMIT_SECONDS
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False,
                              env={**os.environ, **library})
        suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite")
    except subprocess.TimeoutExpired as late:
        return 0, 1, 0, (late.stdout or b"") + f"\nended after {limit} s".encode()
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 1, 0, done.stdout + f"\nno report: exit status {done.returncode}".encode()
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    if done.returncode != 0 and failed == 0:
        failed = 1
    return count["tests"] - failed - count["skipped"], failed, count["skipped"], done.stdout


def run_lint(build, everything):
    """The static checks as one test, clang-tidy over every file or the changed ones; returns (passed, failed, skipped,
    output)."""
    what = [] if everything else ["--changed"]
    done = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("lint.py"), *what, build],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return int(done.returncode == 0), int(done.returncode not in (0, 77)), int(done.returncode == 77), done.stdout


def run_fuzz(build):
    """Every fuzz target for a minute, as one test; returns (passed, failed, skipped, output)."""
    done = subprocess.run([sys.executable, pathlib.Path(__file__).parent / "fuzz" / "run.py", build],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return int(done.returncode == 0), int(done.returncode not in (0, 77)), int(done.returncode == 77), done.stdout


def main():
    options = arguments()
    pattern = options.filter + ("" if options.all else ("-" if "-" not in options.filter else ":") + "*Slow*")
    programs = sorted(path for path in (options.build / "tests").iterdir() if os.access(path, os.X_OK) and path.is_file())
    if not programs:
        sys.exit(f"no test programs in {options.build / 'tests'}")
    total = [0, 0, 0]

    printing = threading.Lock()

    def run(name, body):
        nonlocal total
        begin = time.monotonic()
        *counts, output = body()
        with printing:
            print(f"{name:<20} {counts[0]:>4} passed  {counts[1]:>3} failed  {counts[2]:>3} skipped"
                  f"  {time.monotonic() - begin:6.1f} s", flush=True)
            if counts[1] or counts[2]:
                sys.stdout.write(output.decode(errors="replace"))
                sys.stdout.flush()
            total = [a + b for a, b in zip(total, counts)]

    # Two at a time: most tests use one thread. Those that take longest begin.
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = []
        if options.filter in ("*", "conformance"):
            jobs.append(pool.submit(run, "conformance", lambda: run_conformance(options, f"{folder}/conformance.xml")))
        for program in sorted(programs, key=lambda path: path.name not in LONG) if options.filter != "conformance" else []:
            jobs.append(pool.submit(run, program.name, lambda program=program: run_program(
                program, pattern, f"{folder}/{program.name}.json")))
        for job in jobs:
            job.result()
    if options.filter == "*":
        run("lint", lambda: run_lint(options.build, options.all))
    if options.filter == "*" and options.all:
        run("fuzz", lambda: run_fuzz(options.build))
    if sum(total) == 0:
        print(f"no test matches '{options.filter}'")
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    sys.exit(1 if total[1] or sum(total) == 0 else 0)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Runs the examples of README.md, CONTRIBUTING.md and docs/*.md.

    KLAB_PROGRAM=build/bin/klab                          # checks options, runs the cheap commands
    KLAB_COMPILE_COMMANDS=build/compile_commands.json    # compiles the C++ examples (-fsyntax-only)
    KLAB_LIBRARY=build/lib/libklab_kernels.so            # runs the first Python example
    python -m pytest tests/docs

Tests that need an unset variable are skipped; links and paths are always checked.
"""

import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LIMIT_SECONDS = 300


def absolute(variable):
    return pathlib.Path(os.environ[variable]).resolve() if os.environ.get(variable) else None


PROGRAM, COMPILE_COMMANDS, LIBRARY = map(absolute, ("KLAB_PROGRAM", "KLAB_COMPILE_COMMANDS", "KLAB_LIBRARY"))
needs_program = pytest.mark.skipif(PROGRAM is None, reason="KLAB_PROGRAM is not set")
needs_compiler = pytest.mark.skipif(COMPILE_COMMANDS is None, reason="KLAB_COMPILE_COMMANDS is not set")


# --- Extraction ------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    page: pathlib.Path
    line: int
    language: str
    text: str


class Command(NamedTuple):
    page: pathlib.Path
    line: int
    words: tuple


@functools.cache
def parsed(page):
    """The fenced blocks of a page, and its other lines as (number, text)."""
    blocks, outside, fence = [], [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            if fence is None:
                fence = (number, line.strip()[3:].strip(), [])
            else:
                blocks.append(Block(page, fence[0], fence[1], "".join(text + "\n" for text in fence[2])))
                fence = None
        elif fence is not None:
            fence[2].append(line)
        else:
            outside.append((number, line))
    assert fence is None, f"{page}:{fence[0]}: the block is not closed"
    return blocks, outside


def blocks(language, *pages):
    return [block for page in pages or PAGES for block in parsed(page)[0] if block.language == language]


def commands(page):
    """Every ./klab command of fenced shell blocks and indented lines, in order."""
    fenced, outside = parsed(page)
    lines = [(block.line + offset, line) for block in fenced if block.language == "sh"
             for offset, line in enumerate(block.text.splitlines(), 1)]
    lines += [(number, line) for number, line in outside if line.startswith("    ")]
    found = []
    for number, line in sorted(lines):
        if re.match(r"\s*(KLAB_\w+=\S+ )*\./klab\b", line):
            words = shlex.split(line, comments=True)
            found.append(Command(page, number, tuple(words[words.index("./klab") + 1:])))
    return found


ALL_COMMANDS = [command for page in PAGES for command in commands(page)]


def name_of(item):
    shown = " ".join(item.words[:2]) if isinstance(item, Command) else item.language
    return f"{item.page.name}:{item.line}:{shown}"


def inline_code(page):
    return [(number, code) for number, line in parsed(page)[1] for code in re.findall(r"`([^`]+)`", line)]


def long_options(words):
    return [word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][\w.-]*(=.*)?", word)]


# --- The program -----------------------------------------------------------------------------------------------------


def output_of(*words, cwd=None):
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False,
                          timeout=LIMIT_SECONDS)
    assert done.returncode == 0, f"{shlex.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def help_of(subcommand):
    if subcommand == "test":
        return output_of(sys.executable, ROOT / "tests" / "run.py", "--help")
    return output_of(PROGRAM, *([subcommand] if subcommand else []), "--help")


@functools.cache
def options_of(subcommand):
    """The long options in a subcommand's help, and the global options."""
    text = help_of(subcommand) + ("" if subcommand in ("", "test") else help_of(""))
    return set(re.findall(r"(?<![\w-])--[a-z](?:[\w.-]*\w)?", text))


@functools.cache
def subcommands():
    listed = help_of("").split("Subcommands:")[1]
    return re.findall(r"^  (\w+) ", listed, re.MULTILINE)


def test_there_are_examples():
    assert len(ALL_COMMANDS) > 30
    assert len(blocks("cpp")) == 5


@needs_program
@pytest.mark.parametrize("command", ALL_COMMANDS, ids=name_of)
def test_options_exist(command):
    subcommand = command.words[0]
    if subcommand == "build":
        assert len(command.words) == 1
        return
    assert subcommand == "test" or subcommand in subcommands()
    unknown = set(long_options(command.words)) - options_of(subcommand)
    assert not unknown, f"klab {subcommand} has no {', '.join(sorted(unknown))}"


@needs_program
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page):
    gpu_script = output_of(sys.executable, ROOT / "experiments" / "bench" / "gpu" / "run", "--help")
    known = set().union(*(options_of(name) for name in ["", "test", *subcommands()]), {"--preset", "--key"},
                        re.findall(r"--[a-z]+", gpu_script))
    unknown = [f"line {number}: {option}" for number, code in inline_code(page) if not code.startswith("pip ")
               for option in long_options(re.split(r"[\s\[\]]+", code)) if option not in known]
    assert not unknown, unknown


@needs_program
def test_readme_lists_every_subcommand_and_task():
    code = {text for _, text in inline_code(ROOT / "README.md")}
    named = {text.split()[1] for text in code if text.startswith("./klab ")} | code | {"demo"}
    assert not set(subcommands()) - named
    assert not set(output_of(PROGRAM, "tasks", "--list").split()) - code


# Few steps of small batches: tests only that a command runs.
FEW_STEPS = ["--train.steps", "2", "--train.eval_every", "1", "--train.eval_examples", "4", "--train.batch", "2"]


def shortened(words, folder):
    """A short version of the command; None for commands that take long or need missing inputs."""
    subcommand, rest = words[0], list(words[1:])
    rest = [str(folder / "public") if word == "DIR" else str(folder / word) if word in ("FILE.yaml", "QUESTION.yaml") else word
            for word in rest]
    if subcommand in ("train", "rl"):
        large = any(word.startswith("experiments/configs/") for word in rest)
        tests = ["--test.examples", "4"] if "--test.also" in rest else []
        return None if large else [subcommand, *rest, *FEW_STEPS, *tests]
    if subcommand == "study":
        return [subcommand, *rest]
    if subcommand == "sweep":
        return None if "slurm" in rest else [subcommand, *rest]
    if subcommand == "reproduce":
        return None if rest else [subcommand]
    if subcommand in ("logits", "generate") and "--tokens" in rest:
        return [subcommand, *rest]
    if subcommand in ("compare", "export", "inspect", "model", "plot", "resume", "tasks"):
        return [subcommand, *rest]
    return None


@pytest.fixture(scope="session")
def public_checkpoint(tmp_path_factory):
    """A small model in the layout of public checkpoints."""
    folder = tmp_path_factory.mktemp("public")
    output_of(PROGRAM, "train", "--model.pattern", "kda,mla", *FEW_STEPS, "--out", "run", cwd=folder)
    output_of(PROGRAM, "export", "run", "--out", "checkpoint", cwd=folder)
    return folder / "checkpoint"


@needs_program
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_cheap_commands_run(page, tmp_path, request):
    for name in ("docs", "experiments", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    examples = [command for command in commands(page) if shortened(command.words, tmp_path)]
    if any("DIR" in command.words for command in examples):
        (tmp_path / "public").symlink_to(request.getfixturevalue("public_checkpoint"))
    for number, file in enumerate(("FILE.yaml", "QUESTION.yaml")):
        if any(file in command.words for command in examples):
            (tmp_path / file).write_text(short_sweep(page, number))
    for command in examples:
        output_of(PROGRAM, *shortened(command.words, tmp_path), cwd=tmp_path)


def short_sweep(page, number):
    """A sweep or study file of the page with few steps and seeds."""
    yaml = pytest.importorskip("yaml")
    sweep = yaml.load(blocks("yaml", page)[number].text, yaml.BaseLoader)  # keeps all values as text
    sweep["base"]["train"].update(steps="4", eval_every="2", eval_examples="4", batch="2")
    if "study" in sweep:
        sweep["study"]["seeds"] = "2"
    else:
        sweep["halving"]["steps"] = ["2"]
        sweep["seeds"] = ["1"]
    return yaml.dump(sweep)


@needs_program
@pytest.mark.parametrize("command", [command for command in ALL_COMMANDS if command.words[0] == "train"
                                     and command.words[1].startswith("experiments/configs/")], ids=name_of)
def test_documented_configs_are_valid(command):
    output_of(PROGRAM, "model", command.words[1], cwd=ROOT)


# --- C++ and Python --------------------------------------------------------------------------------------------------


def compile_command(library, source):
    """The compiler and its flags for a source of a library, without its output, input and precompiled header."""
    entries = json.loads(COMPILE_COMMANDS.read_text())
    own = [entry for entry in entries if pathlib.Path(entry["file"]) == ROOT / source]
    # In a unity build the file is part of another source of the same library.
    own += [entry for entry in entries if f"/{library}.dir/" in entry["command"] and not entry["file"].endswith("_pch.cxx")]
    assert own, f"{COMPILE_COMMANDS} compiles nothing of {library}"
    words = shlex.split(own[0]["command"])
    compiler = next(i for i, word in enumerate(words) if re.fullmatch(r"(clang|g|c)\+\+(-\d+)?", pathlib.Path(word).name))
    flags, rest = [words[compiler]], iter(words[compiler + 1:])
    for word in rest:
        if word in ("-o", "-include", "-MF", "-MT"):
            next(rest)
        elif word not in ("-c", "-MD", "-Winvalid-pch", own[0]["file"]):
            flags.append(word)
    return flags, own[0]["directory"]


@needs_compiler
@pytest.mark.parametrize("page, library, like", [("adding-a-mixer.md", "klab_mixers", "mixers/deltanet.cpp"),
                                                 ("adding-a-task.md", "klab_tasks", "tasks/copy.cpp"),
                                                 ("reinforcement-learning.md", "klab_rewards", "rewards/exact.cpp")])
def test_cpp_examples_compile(page, library, like, tmp_path):
    sources = []
    for block in blocks("cpp", ROOT / "docs" / page):
        path = tmp_path / re.match(r"// (\S+)\n", block.text)[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
        sources += [path] if path.suffix == ".cpp" else []
    assert sources
    (compiler, *flags), directory = compile_command(library, like)
    for source in sources:
        output_of(compiler, f"-I{tmp_path}", *flags, "-fsyntax-only", source, cwd=directory)


@pytest.mark.parametrize("block", blocks("python"), ids=name_of)
def test_python_examples_are_valid(block):
    compile(block.text, f"{block.page}:{block.line}", "exec")


@pytest.mark.skipif(LIBRARY is None, reason="KLAB_LIBRARY is not set")
def test_first_python_example_runs():
    environment = {**os.environ, "KLAB_LIBRARY": str(LIBRARY), "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-c", blocks("python")[0].text], env=environment, capture_output=True, text=True,
                          check=False, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr


# --- Text ------------------------------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language(page):
    assert not [block.line for block in parsed(page)[0] if block.language not in ("sh", "yaml", "cpp", "python", "text")]


def anchors(page):
    """The anchors of a page's headings."""
    headings = [line.lstrip("#").strip() for _, line in parsed(page)[1] if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + [ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    broken = []
    for number, line in parsed(page)[1]:
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = page.parent / file if file else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"line {number}: {target}")
    assert not broken, broken


PATH = re.compile(r"(?<![\w./-])(?:kernels|core|mixers|tasks|rewards|experiments|tests|results|docs|python|cmake|\.ci)/[\w./*-]*")
PLACEHOLDER = re.compile(r"\bmine\b|\bNAME\b|name_test")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page):
    lost = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for path in PATH.findall(re.sub(r"\]\([^)]*\)|<op>\S*", "]", line)):
            path = path.rstrip(".")
            if PLACEHOLDER.search(path) or (ROOT / path).exists():
                continue
            if "*" not in path or not list(ROOT.glob(path)):
                lost.append(f"line {number}: {path}")
    assert not lost, lost


def test_the_map_of_the_tree_is_the_tree():
    (block,) = [block for block in blocks("text", ROOT / "docs" / "layout.md") if block.text.startswith("kernels/")]
    named, parent = set(), ""
    for line in block.text.splitlines():
        if found := re.match(r"( {2})?([\w./-]+)/ ", line):
            parent = parent if found[1] else found[2]
            named.add(f"{parent}/{found[2]}" if found[1] else parent)
    assert not [folder for folder in named if not (ROOT / folder).is_dir()]
    real = {str(path.relative_to(ROOT)) for top in ("kernels", "core", "experiments") for path in (ROOT / top).iterdir()
            if path.is_dir() and path.name != "__pycache__" and any(child.is_file() for child in path.rglob("*"))}
    assert not real - named

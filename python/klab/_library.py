"""Finds libklab_kernels.so and loads its operators into torch.ops.klab."""

import os
import pathlib

import torch

NAME = "libklab_kernels.so"
OPERATORS = ("recurrence", "short_conv", "gated_rms_norm")


def candidates() -> list[pathlib.Path]:
    """Where the library may lie, in order of preference. KLAB_LIBRARY is taken at its word: nothing else is tried."""
    if named := os.environ.get("KLAB_LIBRARY"):
        return [pathlib.Path(named)]
    package = pathlib.Path(__file__).resolve().parent
    return [package / NAME, package.parent.parent / "build" / "lib" / NAME]


def find() -> pathlib.Path:
    tried = candidates()
    for path in tried:
        if path.is_file():
            return path
    places = "".join(f"\n  {path}" for path in tried)
    raise ImportError(f"klab: the operator library is missing. Tried:{places}\nBuild it with `./klab build` in the klab "
                      "repository, or set KLAB_LIBRARY to the path of a built libklab_kernels.so.")


def load() -> None:
    """Raises ImportError when the library is missing, does not fit this torch, or lacks an operator."""
    path = find()
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise ImportError(f"klab: {path} does not load into torch {torch.__version__}: {error}\nIt was probably built "
                          "against another torch; build it again with `./klab build`.") from error
    missing = [name for name in OPERATORS if not hasattr(torch.ops.klab, name)]
    if missing:
        raise ImportError(f"klab: {path} has no operator {', '.join(missing)}; it is older than this package. Build it "
                          "again with `./klab build`.")

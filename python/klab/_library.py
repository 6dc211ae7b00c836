# SPDX-License-Identifier: Apache-2.0
"""Finds libklab_kernels.so and loads its operators into torch.ops.klab."""

import os
import pathlib

import torch

NAME = "libklab_kernels.so"
OPERATORS = ("recurrence", "recurrence_all_states", "short_conv", "gated_rms_norm", "kda_gate", "latent_attention")


def candidates() -> list[pathlib.Path]:
    """The paths where the library may be, in order of preference; only KLAB_LIBRARY if that is set."""
    if named := os.environ.get("KLAB_LIBRARY"):
        return [pathlib.Path(named)]
    package = pathlib.Path(__file__).resolve().parent
    return [package / NAME, package.parent.parent / "build" / "lib" / NAME]


def find() -> pathlib.Path:
    """The first candidate that exists; raises ImportError when there is none."""
    tried = candidates()
    for path in tried:
        if path.is_file():
            return path
    places = "".join(f"\n  {path}" for path in tried)
    raise ImportError(f"klab: the operator library is missing. Tried:{places}\nBuild it with `./klab build` in the klab "
                      "repository, or set KLAB_LIBRARY to the path of a built libklab_kernels.so.")


def load() -> None:
    """Loads the library. Raises ImportError when it is missing, built against another torch, or lacks an operator."""
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

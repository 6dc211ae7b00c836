# SPDX-License-Identifier: Apache-2.0
"""Checks python/klab against independent implementations: fla-core's naive recurrences, transformers' Kimi Linear, torch.

    pip install -r tests/conformance/requirements.txt
    python -m pytest tests/conformance            # small shapes, about a minute on two cores
    python -m pytest tests/conformance --slow     # also the full sizes of the public matrix
"""

import importlib
import logging
import os
import pathlib
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # set before importing torch; spinning threads slow a busy machine

import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))

MODELING = "transformers.models.kimi_linear.modeling_kimi_linear"


def pytest_configure():
    logging.getLogger("torch.__trace").propagate = False  # torch.compile logs thousands of lines on a failure


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(42)


@pytest.fixture(scope="session")
def modeling():
    """transformers' Kimi Linear on its own PyTorch functions. fla is hidden during the import, because the module would
    otherwise bind fla's GPU kernels."""
    assert MODELING not in sys.modules, "imported before fla could be hidden from it"
    hidden = sys.modules.get("fla")
    sys.modules["fla"] = None  # makes `import fla` fail
    try:
        return importlib.import_module(MODELING)
    finally:
        if hidden is None:
            del sys.modules["fla"]
        else:
            sys.modules["fla"] = hidden

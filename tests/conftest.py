# SPDX-License-Identifier: Apache-2.0
"""The slow tests of all folders run only with --slow."""


def pytest_addoption(parser):
    help_text = "also run slow tests, such as the full sizes of the public test matrix"
    parser.addoption("--slow", action="store_true", help=help_text)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs only with --slow, as a full size of the public matrix does")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    slow = [item for item in items if "slow" in item.keywords]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if "slow" not in item.keywords]

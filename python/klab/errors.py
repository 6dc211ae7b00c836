# SPDX-License-Identifier: Apache-2.0
"""The exception for wrong arguments, and the check that raises it."""


class ArgumentError(ValueError, AssertionError):
    """A wrong shape, dtype or combination of arguments.

    flash-linear-attention raises ValueError for some of these and asserts others: code that catches either type catches
    this one.
    """


def require(condition: bool, message: str, *values: object) -> None:
    """Raises ArgumentError with `message`, formatted with `values`, unless `condition` holds.

    The message is formatted only if it is raised: otherwise torch.compile would specialise on every size in a message.
    """
    if not condition:
        raise ArgumentError(message.format(*(list(value) if isinstance(value, tuple) else value for value in values)))

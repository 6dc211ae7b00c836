"""What a wrong argument raises."""


class ArgumentError(ValueError, AssertionError):
    """A wrong shape, dtype or combination. flash-linear-attention asserts some of these and raises ValueError for others:
    whoever catches either kind catches this one."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ArgumentError(message)

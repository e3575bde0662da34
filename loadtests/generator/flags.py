"""Values of flags in the forms that locust takes, for commands that drive it: they start without locust itself."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable

_TIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def run_time(text: str) -> int:
    """Read a time as locust does, in seconds: 90, 90s, 5m, 1h30m. Raises: ArgumentTypeError."""
    found = _TIME.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total_s = 3600 * hours + 60 * minutes + seconds
    if not total_s:
        raise ArgumentTypeError(f"{text!r}; must be a time above 0, as 90, 90s, 5m or 1h30m.")
    return total_s


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a reader of numbers above 0. It raises ArgumentTypeError."""

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < float("inf"):
            raise ArgumentTypeError(f"{text!r}; must be a {'whole ' if kind is int else ''}number above 0.")
        return number

    return read

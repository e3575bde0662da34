"""A log in which a line that repeats is written once, and then its count: a flood fills no disk, and nothing is lost.

A server that cannot accept a connection says so some ten thousand times a second.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

# Lines that differ in numbers alone (times, ports, processes) are the same line.
_NUMBERS = re.compile(r"\d+")
# How much of a line is kept to know it again, and how many lines.
_KEY_CHARACTERS = 300
_MAX_LINES = 64
# Of one line; a longer one goes on as the next.
MAX_CHARACTERS = 8192
PERIOD_S = 60.0


@dataclass
class _Seen:
    line: str
    since: float
    more: int = 0


class RepeatedLines:
    """Passes the lines of a log on; those that were written within the last minute are counted instead.

    The count follows when the line comes again after that minute, when 64 others came since, or at `flush`. So the
    memory is bounded, and so is what a flood writes. For one thread.

    Args:
        write: gets what is to be written.
        clock: seconds, ever growing; a stand-in in tests.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._last_rule = ""

    def __call__(self, line: str) -> None:
        """Write a line, or count it."""
        if not any(character.isalnum() for character in line):
            # Rules of a table come several times in it.
            if line != self._last_rule:
                self._write(line)
            self._last_rule = line
            return
        self._last_rule = ""
        key, now = _NUMBERS.sub("#", line[:_KEY_CHARACTERS]), self._clock()
        seen = self._seen.get(key)
        if seen is not None and now - seen.since < PERIOD_S:
            seen.more += 1
            return
        if seen is not None:
            self._tell(seen)
        self._write(line)
        self._seen[key] = _Seen(line, now)
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_LINES:
            self._tell(self._seen.popitem(last=False)[1])

    def flush(self) -> None:
        """Write all counts that are still to come."""
        while self._seen:
            self._tell(self._seen.popitem(last=False)[1])

    def _tell(self, seen: _Seen) -> None:
        if seen.more:
            self._write(f"(came {seen.more} more times, in other numbers at most: {seen.line[:_KEY_CHARACTERS]})")


def read_lines(stream: IO[str]) -> Iterator[str]:
    """Read a log to its end, a line at a time; one without an end is cut."""
    while line := stream.readline(MAX_CHARACTERS):
        yield line.rstrip("\n")

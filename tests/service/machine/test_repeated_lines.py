"""A log that repeats itself, on a clock of the test's own."""

import io
from collections.abc import Callable

import pytest

from service.machine.repeated_lines import MAX_CHARACTERS, PERIOD_S, RepeatedLines, read_lines

ACCEPT = "E1127 06:00:00.{:06d}   {} tcp_server_posix.cc:12] File descriptor limit reached. Retrying."


class Log:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.folded = RepeatedLines(self.lines.append, lambda: self.now)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_line_that_repeats_is_written_once_and_counted(log: Log) -> None:
    for index in range(100_000):
        log.folded(ACCEPT.format(index, index % 7))
    assert log.lines == [ACCEPT.format(0, 0)]
    log.now = PERIOD_S
    log.folded(ACCEPT.format(5, 5))
    first, count, again = log.lines
    assert (first, again) == (ACCEPT.format(0, 0), ACCEPT.format(5, 5))
    assert "came 99999 more times" in count
    log.folded(ACCEPT.format(6, 6))
    log.folded.flush()
    assert "came 1 more times" in log.lines[-1]


def test_lines_that_take_turns_are_folded_too(log: Log) -> None:
    for _ in range(1000):
        for line in ("accept failed", "retrying", "closing"):
            log.folded(line)
    assert len(log.lines) == 3


def test_other_lines_pass_and_none_is_lost(log: Log) -> None:
    told = ["started", "+---+", "| vggish |", "+---+", "| hiera |", "+---+", "", "ready"]
    for line in told:
        log.folded(line)
    log.folded.flush()
    assert log.lines == told


def test_memory_is_bounded_and_what_is_forgotten_was_counted(log: Log) -> None:
    letters: Callable[[int], str] = lambda index: "".join(chr(97 + int(digit)) for digit in str(index))  # noqa: E731
    for index in range(1000):
        for _ in range(2):
            log.folded(f"fault of {letters(index)}")
    assert len(log.folded._seen) == 64
    log.folded.flush()
    assert len(log.lines) == 2000


def test_a_line_without_an_end_is_cut() -> None:
    found = list(read_lines(io.StringIO("x" * (2 * MAX_CHARACTERS + 5) + "\nshort\n\nlast")))
    assert [len(line) for line in found] == [MAX_CHARACTERS, MAX_CHARACTERS, 5, 5, 0, 4]

"""The benchmark counts what it says. Nothing here looks at the clock."""

from pathlib import Path

from loadtests.session_rounds import measure


def test_first_and_later_rounds_are_counted_apart(compact_build: Path) -> None:
    times, memory = measure(compact_build, sessions=1, clicks=2)
    assert {name: len(values) for name, values in times.items()} == {
        "first": 1,
        "later": 2,
        "click": 2,
        "propagate": 2,
        "clip by sound": 1,
    }
    assert all(seconds > 0 for values in times.values() for seconds in values)
    assert len(memory) == 3

"""Every clip that was sent is accounted for."""

from loadtests.generator.sender import Outcome
from loadtests.run import account


def test_ids_are_counted() -> None:
    full = [Outcome(f"load-0-{number}", number, number, number + 1, "OK") for number in (1, 2, 3)]
    assert account(full) == {"sent": 3, "ended": 3, "ended_twice": 0}
    assert account([full[0], full[2]]) == {"sent": 3, "ended": 2, "ended_twice": 0}
    assert account([*full, full[1]]) == {"sent": 3, "ended": 4, "ended_twice": 1}

"""What the service promises under overload, and that each promise can be broken."""

import pytest

from loadtests.overload import Phase, judge
from loadtests.reports.summary import Summary


def phase(name: str, answered: float, p95: float, refused: float | None, *, lost: int = 0, server: int = 90) -> Phase:
    refusals = {} if refused is None else {"p50": refused, "p95": refused}
    summary = Summary(30, 9, 9, answered, 5 * answered, {}, {"p95": p95}, refusals, {"OK": 90}, 1.0, 90)
    return Phase(name, summary, {"sent": 90, "ended": 90 - lost, "ended_twice": 0}, 90, server)


GOOD = (phase("saturation", 7, 900, None), phase("once", 6.8, 950, 20), phase("twice", 6.9, 1000, 30))


def test_a_service_that_keeps_its_word_passes() -> None:
    assert all(verdict.holds for verdict in judge(GOOD))


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        (0, phase("twice", 6.5, 1000, 30)),
        (1, phase("twice", 6.9, 1500, 30)),
        (2, phase("twice", 6.9, 1000, 101)),
        (2, phase("twice", 6.9, 1000, None)),
        (3, phase("twice", 6.9, 1000, 30, lost=1)),
        (4, phase("twice", 6.9, 1000, 30, server=91)),
    ],
)
def test_each_promise_can_be_broken(place: int, broken: Phase) -> None:
    assert [verdict.holds for verdict in judge((*GOOD[:2], broken))] == [index != place for index in range(5)]

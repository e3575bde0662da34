"""Times in turns, by a clock that the test moves."""

from collections.abc import Callable

import pytest

from loadtests.gpu.measuring.timing import LEAST_ROUNDS, WARM_UPS, WallTimer, explain, in_turns, summarise


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def works(self, seconds: float, notes: list[float]) -> Callable[[], None]:
        def work() -> None:
            notes.append(seconds)
            self.now_s += seconds

        return work


def test_operations_take_turns_and_the_warm_up_does_not_count() -> None:
    clock, notes = Clock(), list[float]()
    operations = {"fast": clock.works(1, notes), "slow": clock.works(2, notes)}
    times, failures = in_turns(operations, WallTimer(clock), seconds=1000, most_rounds=6, clock=clock)
    assert notes == [1, 2] * (WARM_UPS + 6)
    assert times == {"fast": [1000.0] * 6, "slow": [2000.0] * 6}
    assert failures == {}


def test_when_the_time_is_over_the_least_rounds_are_run_all_the_same() -> None:
    clock, notes = Clock(), list[float]()
    times, _ = in_turns({"slow": clock.works(60, notes)}, WallTimer(clock), seconds=10, clock=clock)
    assert len(times["slow"]) == LEAST_ROUNDS


def test_one_that_fails_is_told_and_the_others_go_on() -> None:
    clock, left = Clock(), [3]

    def break_down() -> None:
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("CUDA error: an illegal memory access\nand a long story")

    operations = {"broken": break_down, "whole": clock.works(1, [])}
    times, failures = in_turns(operations, WallTimer(clock), seconds=100, most_rounds=5, clock=clock)
    assert failures == {"broken": "RuntimeError: CUDA error: an illegal memory access"}
    assert list(times) == ["whole"]
    assert len(times["whole"]) == 5


def test_median_and_spread() -> None:
    found = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found == {"median_ms": 3.0, "p20_ms": 2.0, "p80_ms": 4.0, "rounds": 5}


@pytest.mark.parametrize(("error", "words"), [(KeyError(), "KeyError"), (ValueError("a\nb"), "ValueError: a")])
def test_a_reason_is_one_line(error: Exception, words: str) -> None:
    assert explain(error) == words

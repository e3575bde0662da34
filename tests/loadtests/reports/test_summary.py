"""Rates, percentiles and codes of a run."""

import pytest

from loadtests.generator.sender import Outcome
from loadtests.reports.summary import percentiles, summarise


def outcome(number: int, due: float, took: float, code: str = "OK") -> Outcome:
    return Outcome(f"load-0-{number}", due, due, due + took, code)


def test_a_summary_tells_offered_from_achieved_and_leaves_the_warm_up_out() -> None:
    # One clip a second for 20 s; from 10 s on every second one is refused, the last answer comes after the end.
    outcomes = [outcome(n, n, 0.5) for n in range(10)]
    outcomes += [outcome(n, n, 0.01, "UNAVAILABLE") if n % 2 else outcome(n, n, 3.0) for n in range(10, 20)]
    found = summarise(outcomes, num_frames=5, duration_s=20, warm_up_s=10)
    assert found.offered_clips_per_s == 1
    assert found.by_code == {"OK": 5, "UNAVAILABLE": 5}
    # Due at 10, 12, 14, 16 and answered before 20; the one of 18 s ends at 21.
    assert found.answered_clips_per_s == pytest.approx(0.4)
    assert found.frames_per_s == pytest.approx(2.0)
    assert found.latency_ms["p50"] == pytest.approx(3000)
    assert found.refusal_ms["max"] == pytest.approx(10)
    assert found.first_request_ms == pytest.approx(500)
    assert percentiles([]) == {}

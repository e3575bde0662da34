"""When a server is started again, on a clock of the test's own."""

import pytest

from service.supervision.restarts import LONGEST_PAUSE_S, Restarts


def test_pauses_grow_to_a_minute_and_never_end() -> None:
    restarts = Restarts(limit=5, window_s=600, backoff_s=0.5, backoff_max_s=8)
    now, pauses = 0.0, []
    for _ in range(50):
        restarts.note(now)
        pauses.append(restarts.pause_s(now))
        now += pauses[-1] + 5
    assert pauses[:9] == [0, 0.5, 1, 2, 4, 16, 32, 60, 60]
    # Ten minutes later fewer faults lie in the window, but more than are allowed.
    assert set(pauses[9:]) <= {LONGEST_PAUSE_S}


def test_a_quiet_window_makes_all_as_before() -> None:
    restarts = Restarts(limit=2, window_s=600, backoff_s=0.5, backoff_max_s=8)
    assert [restarts.note(at) for at in (0.0, 1.0, 2.0)] == [1, 2, 3]
    assert restarts.are_too_many(2.0)
    assert not restarts.are_too_many(601.5)
    assert restarts.note(700.0) == 1
    assert restarts.pause_s(700.0) == 0


@pytest.mark.parametrize("faults", [100, 5000])
def test_a_pause_is_finite_whatever_comes(faults: int) -> None:
    restarts = Restarts(limit=0, window_s=600, backoff_s=600, backoff_max_s=0.01)
    for _ in range(faults):
        restarts.note(0.0)
    assert restarts.pause_s(0.0) == LONGEST_PAUSE_S
    patient = Restarts(limit=10_000, window_s=600, backoff_s=0.5, backoff_max_s=8)
    for _ in range(faults):
        patient.note(0.0)
    assert patient.pause_s(0.0) == 8

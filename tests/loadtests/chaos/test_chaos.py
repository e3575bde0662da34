"""What the suite of faults says of what it saw. The faults themselves run with `make chaos`."""

import signal
from typing import Any

import pytest

from loadtests.chaos.__main__ import FAULTS, stop
from loadtests.chaos.load import OK, Outcome, longest_silence_s
from loadtests.chaos.report import all_holds, holds, markdown

ROW: dict[str, Any] = {
    "name": "hiera killed",
    "least_answered": 0.0,
    "by_code": {"OK": 40, "ServerUnavailable": 2},
    "wrong": 0,
    "same_bytes": True,
    "silence_s": 4.2,
    "memory": [1e9, 1.04e9],
    "files": [200, 205],
}


RUN: dict[str, Any] = {
    "door": "off",
    "faults": [ROW],
    "num_sent": 42,
    "num_answered": 40,
    "num_wrong": 0,
    "num_lost": 0,
    "memory": [1e9, 1.0e9],
    "files": [200, 200],
    "broken": "",
    "left": [],
}
RECORD: dict[str, Any] = {"build": "toy", "seed": 3, "log_bytes": 2e6, "runs": [RUN]}


def test_faults_have_names_of_their_own() -> None:
    for faults in FAULTS.values():
        assert len({fault.name for fault in faults}) == len(faults)


@pytest.mark.parametrize(
    "changed",
    [{"wrong": 1}, {"same_bytes": False}, {"least_answered": 0.96}, {"memory": [1e9, 1.06e9]}, {"files": [200, 219]}],
)
def test_a_fault_that_leaves_a_trace_does_not_hold(changed: dict[str, Any]) -> None:
    assert holds(ROW)
    assert not holds(ROW | changed)


def test_time_without_answers_is_between_right_ones() -> None:
    codes = [(1.0, OK), (2.0, OK), (3.0, "ServerUnavailable"), (6.5, OK), (7.0, OK)]
    outcomes = [Outcome(0, 0.0, at, code) for at, code in codes]
    assert longest_silence_s(outcomes, 0.5) == 4.5
    # It begins with the fault, whether or not anybody was answered just before.
    assert longest_silence_s(outcomes, -6.0) == 7.0
    assert longest_silence_s([], 0.0) == 0.0


@pytest.mark.parametrize(
    "changed",
    [
        {"broken": "it did not come back"},
        {"num_wrong": 1},
        {"num_lost": 1},
        {"left": ["process 7"]},
        {"memory": [1e9, 1.06e9]},
        {"faults": [ROW | {"wrong": 1}]},
    ],
)
def test_what_a_run_leaves_or_loses_does_not_hold(changed: dict[str, Any]) -> None:
    assert all_holds(RECORD)
    assert not all_holds(RECORD | {"runs": [RUN, RUN | changed]})
    assert not all_holds(RECORD | {"log_bytes": 21e6})


def test_the_table_names_what_does_not_hold() -> None:
    text = markdown(RECORD)
    assert "| hiera killed | 40 | 2 ServerUnavailable | 4.2 | +4.0% | +2.5% | yes |" in text
    assert "42 requests, 40 answered, 0 wrong, 0 lost or doubled" in text
    assert "nothing left behind" in text
    broken = markdown(RECORD | {"runs": [RUN | {"faults": [ROW | {"wrong": 1}], "broken": "gone", "left": ["a.shm"]}]})
    assert "**no**" in broken
    assert "It broke off: gone" in broken
    assert "a.shm left behind" in broken


def test_sigterm_ends_what_the_run_started() -> None:
    with pytest.raises(SystemExit) as raised:
        stop(signal.SIGTERM, None)
    assert raised.value.code == 143

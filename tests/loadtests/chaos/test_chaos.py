"""What the suite of faults says of what it saw. The faults themselves run with `make chaos`."""

from typing import Any

import pytest

from loadtests.chaos.__main__ import FAULTS
from loadtests.chaos.load import OK, Outcome, longest_silence_s
from loadtests.chaos.report import holds, markdown

ROW: dict[str, Any] = {
    "name": "hiera killed",
    "by_code": {"OK": 40, "ServerUnavailable": 2},
    "wrong": 0,
    "same_bytes": True,
    "silence_s": 4.2,
    "memory": [1e9, 1.04e9],
    "files": [200, 205],
}


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    "changed", [{"wrong": 1}, {"same_bytes": False}, {"memory": [1e9, 1.06e9]}, {"files": [200, 219]}]
)
def test_a_fault_that_leaves_a_trace_does_not_hold(changed: dict[str, Any]) -> None:
    assert holds(ROW)
    assert not holds(ROW | changed)


def test_time_without_answers_is_between_right_ones() -> None:
    codes = [(1.0, OK), (2.0, OK), (3.0, "ServerUnavailable"), (6.5, OK), (7.0, OK)]
    assert longest_silence_s([Outcome(0, 0.0, at, code) for at, code in codes]) == 4.5


def test_the_table_names_what_does_not_hold() -> None:
    record = {"build": "toy", "seed": 3, "num_sent": 42, "num_lost": 0, "log_bytes": 2e6, "faults": [ROW]}
    assert "| hiera killed | 40 | 2 ServerUnavailable | 4.2 | +4.0% | +2.5% | yes |" in markdown(record)
    assert "42 requests, 0 lost" in markdown(record)
    assert "**no**" in markdown(record | {"faults": [ROW | {"wrong": 1}]})

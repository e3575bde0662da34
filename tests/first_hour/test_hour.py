"""The hour's own tools: what counts as a step gone wrong, how commands beside a step start and end."""

import sys
from pathlib import Path

import pytest

from tests.first_hour.hour import Failed, Hour, Said, environment
from tests.first_hour.steps import OF_CLONING, STEPS


@pytest.fixture
def hour(tmp_path: Path) -> Hour:
    return Hour(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(1, "wrote"), "code 1 .0 expected"),
        (Said(0, "nothing of that"), "not said: .'wrote'"),
        (Said(0, "wrote\nTraceback (most recent call last):"), "unexplained: .'Traceback"),
        (Said(0, "wrote [StatusCode.INVALID_ARGUMENT] unexpected shape"), "unexplained"),
    ],
)
def test_a_step_goes_wrong_by_code_by_words_and_by_what_nobody_explained(said: Said, words: str) -> None:
    with pytest.raises(Failed, match=words):
        said.expect("wrote")


def test_words_are_found_across_lines() -> None:
    assert Said(3, "it\n  wrote").expect("it wrote", code=3).code == 3


def test_a_command_beside_a_step_is_waited_for_and_ended(hour: Hour) -> None:
    waiting = "import time; print('up', flush=True); time.sleep(600)"
    with hour.running(sys.executable, "-c", waiting, until="up") as log:
        assert "up" in log.read_text()
    assert "KeyboardInterrupt" in log.read_text(), "it was ended as by Ctrl-C"
    with (
        pytest.raises(Failed, match="did not say 'up'; it said: down"),
        hour.running(sys.executable, "-c", "print('down')", until="up"),
    ):
        pass


def test_a_command_is_killed_or_was_over(hour: Hour) -> None:
    assert hour.kill_after((sys.executable, "-c", "import time; time.sleep(600)"), 0.01)
    assert not hour.kill_after((sys.executable, "-c", ""), 600)


def test_another_checkouts_settings_are_not_taken_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURALSAM2_BUILD", "elsewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "elsewhere")
    assert not {"AURALSAM2_BUILD", "VIRTUAL_ENV"} & set(environment())
    assert environment({"A": "b"})["A"] == "b"


def test_every_step_of_the_first_hour_is_there() -> None:
    wanted = {"clone", "set-up", "demo", "own clip", "client alone", "doctor", "monitoring", "load test", "train"}
    assert set(STEPS) == wanted
    assert set(OF_CLONING) < wanted

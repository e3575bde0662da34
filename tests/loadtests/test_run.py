"""Every clip that was sent is accounted for, and locust's flags are passed on."""

from pathlib import Path
from typing import Any

import pytest

import loadtests.run
from auralsam2_client.errors import ConfigError
from loadtests.generator.driving import Load, locust_options
from loadtests.generator.flags import run_time
from loadtests.generator.sender import Outcome
from loadtests.run import account, main


def test_ids_are_counted() -> None:
    full = [Outcome(f"load-0-{number}", number, number, number + 1, "OK") for number in (1, 2, 3)]
    assert account(full) == {"sent": 3, "ended": 3, "ended_twice": 0}
    assert account([full[0], full[2]]) == {"sent": 3, "ended": 2, "ended_twice": 0}
    assert account([*full, full[1]]) == {"sent": 3, "ended": 4, "ended_twice": 1}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h2m3s", 3723)])
def test_a_run_time_is_read_as_locust_reads_it(text: str, seconds: int) -> None:
    assert run_time(text) == seconds


@pytest.mark.parametrize("words", [["-t", "0s"], ["-t", "soon"], ["-u", "0"], ["-u", "1.5"], ["-r", "nan"]])
def test_a_flag_that_cannot_be_names_the_way_out(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--build", "none", *words])
    said = capsys.readouterr().err
    assert f"argument {words[0]}" in said
    assert f"{words[1]!r}; must be a" in said


def test_locusts_flags_are_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Load] = []

    def stop_there(build: Path, load: Load, out: Path, note: str) -> dict[str, Any]:
        asked.append(load)
        raise ConfigError("enough")

    monkeypatch.setattr(loadtests.run, "run", stop_there)
    flags = ["-u", "8", "-r", "2", "-t", "1m", "--wire", "jpeg"]
    assert main(["--build", str(tmp_path), *flags]) == 1
    assert asked == [Load(60, users=8, spawn_rate=2, wire="jpeg")]
    words = locust_options(asked[0], "127.0.0.1:1", tmp_path / "outcomes")
    assert (words["--users"], words["--spawn-rate"], words["--run-time"]) == (8, 2, 60)
    # The rate of an open loop is one user's, whatever --users says.
    assert locust_options(Load(2.5, rate=6), "127.0.0.1:1", tmp_path)["--users"] == 1
    assert locust_options(Load(2.5, rate=6), "127.0.0.1:1", tmp_path)["--run-time"] == 3

"""The rows of the service, with stand-ins for the export, the server and the callers."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auralsam2_client.errors import ConfigError, ServerTimeout
from loadtests.cases.case import Case
from loadtests.gpu.planning import jobs
from loadtests.gpu.rows.callers import Calls, call_in_turn, summarise_calls
from loadtests.gpu.rows.service import export_build, measure_service

CASE = Case("compact", 256, 5)
MASKS = np.array([[[-1.0, 1.0], [1.0, -1.0]]], np.float32)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def goes(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_caller_asks_until_its_time_is_over() -> None:
    clock, answers = Clock(), [MASKS, ServerTimeout("no answer in 60 s"), MASKS, -MASKS]

    def ask() -> Any:
        clock.goes(2.0)
        answer = answers.pop(0)
        if isinstance(answer, ServerTimeout):
            raise answer
        return answer

    calls = call_in_turn(ask, MASKS, 7.0, clock)
    assert calls.ended == ((0.0, 2.0), (4.0, 6.0), (6.0, 8.0))
    assert calls.failures == ("ServerTimeout: no answer in 60 s",)
    assert calls.worst_iou == 0.0
    answers.append(MASKS)
    assert call_in_turn(ask, MASKS, 1.0, clock).worst_iou == 1.0


def test_the_rate_is_of_the_time_in_which_all_called() -> None:
    steady = Calls(tuple((float(t), t + 1.0) for t in range(10)), (), 1.0)
    late = Calls(tuple((float(t), t + 1.0) for t in range(5, 15)), ("ServerTimeout: late",), 0.999)
    found = summarise_calls([steady, late], 5)
    # From 5 s, when the second begins, to 10 s, when the first ends: five clips each.
    assert found["frames_per_s"] == pytest.approx(5 * 10 / 5)
    assert found["median_ms"] == pytest.approx(1000)
    assert (found["clips"], found["failures"], found["first_failure"]) == (20, 1, "ServerTimeout: late")
    assert found["mask_iou"] == 0.999


def test_a_caller_without_an_answer_leaves_no_figure() -> None:
    steady = Calls(((0.0, 1.0),), (), 1.0)
    assert summarise_calls([steady, Calls((), ("ConfigError: no model",), 0.0)], 5) == {
        "reason": "a caller got no answer; ConfigError: no model"
    }


def measured(tmp_path: Path, seconds: float, clock: Clock) -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = {}

    def export(case: Case, precision: str, folder: Path, within_s: float) -> Path:
        clock.goes(30.0)
        return folder / "build"

    starts = [50.0, 20.0]

    @contextmanager
    def serve(build: Path, within_s: float) -> Iterator[Any]:
        clock.goes(starts.pop(0))
        yield SimpleNamespace(config=SimpleNamespace(grpc_url="127.0.0.1:1"))

    def call(url: str, build: Path, callers: int, calling_s: float) -> list[Calls]:
        clock.goes(calling_s)
        if callers == 4:
            raise ServerTimeout("no answer in 60 s")
        return [Calls(tuple((t, t + 1.0) for t in np.arange(8.0)), (), 1.0)] * callers

    measure_service(
        CASE,
        "float16",
        jobs.SERVICE_ROWS,
        seconds,
        kept.__setitem__,
        tmp_path,
        export=export,
        serve=serve,
        call=call,
        clock=clock,
    )
    return kept


def test_starts_and_callers_are_measured(tmp_path: Path) -> None:
    kept = measured(tmp_path, 200, Clock())
    starts = kept[jobs.READY_ROW]
    assert starts.pop("precision") == "float16"
    assert starts == pytest.approx({"export_s": 30.0, "first_start_s": 50.0, "second_start_s": 20.0})
    assert kept[jobs.callers_row(1)]["frames_per_s"] == pytest.approx(5.0)
    assert kept[jobs.callers_row(8)]["frames_per_s"] == pytest.approx(40.0)
    assert kept[jobs.callers_row(4)] == {"reason": "ServerTimeout: no answer in 60 s"}


def test_callers_without_time_say_so(tmp_path: Path) -> None:
    kept = measured(tmp_path, 85, Clock())
    assert [kept[jobs.callers_row(count)] for count in jobs.CALLERS] == [{"reason": jobs.OUT_OF_TIME}] * 4
    assert kept[jobs.READY_ROW]["first_start_s"] == 50.0


def test_an_export_that_refuses_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    def run(words: list[str], **options: Any) -> Any:
        asked.append(words)
        return subprocess.CompletedProcess(words, 2, "", "╭─ error ─╮\n│ target 'cuda' needs a driver │\n╰─╯\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConfigError, match=r"ended with 2: .*target 'cuda' needs a driver"):
        export_build(CASE, "float16", tmp_path, 60)
    build = str(tmp_path / "compact-256-t5-cuda-float16")
    options = "export --target cuda --preset compact --image-size 256 --num-frames 5 --precision float16 --out"
    assert asked[0][3:] == [*options.split(), build]


def test_a_build_that_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("exported again"))
    build = tmp_path / "compact-256-t5-cuda-float16"
    build.mkdir()
    (build / "manifest.json").write_text("{}")
    assert export_build(CASE, "float16", tmp_path, 60) == build

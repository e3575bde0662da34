"""The command: what it begins, keeps and leaves out, with stand-ins for the processes that measure."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from loadtests.cases.case import Case
from loadtests.gpu import __main__ as command
from loadtests.gpu import worker
from loadtests.gpu.planning.jobs import COMPILED_ROWS, OURS, OUT_OF_TIME, Budget, Job, plan
from loadtests.gpu.planning.records import Results

CASE = Case("compact", 224, 2)
FIGURES = {"frames_per_s": 8.5}


class Runs:
    """Stands in for the processes: every row gets a figure, but for those that are named."""

    def __init__(self, reasons: dict[str, str] | None = None) -> None:
        self.begun: list[tuple[str, tuple[str, ...]]] = []
        self._reasons = reasons or {}

    def __call__(
        self, job: Job, rows: Sequence[str], share_s: float, out: Path, device: str, say: Callable[[str], None]
    ) -> dict[str, dict[str, Any]]:
        self.begun.append((job.kind, tuple(rows)))
        return {row: {"reason": self._reasons[row]} if row in self._reasons else dict(FIGURES) for row in rows}


def measure(jobs: list[Job], results: Results, out: Path, runs: Runs, seconds: float = 1000) -> list[dict[str, str]]:
    return command.measure(
        jobs, results, Budget(seconds, lambda: 0.0), out, "cpu", run=runs, read_clocks=lambda: {"clocks.sm": "1980"}
    )


def test_a_second_run_measures_what_is_missing(tmp_path: Path) -> None:
    jobs, results = plan([CASE]), Results(tmp_path / "gpu.json", {})
    first = Runs({OURS: "NetworkError: no float16"})
    assert len(measure(jobs, results, tmp_path, first)) == len(jobs)
    assert [kind for kind, _ in first.begun] == [job.kind for job in jobs]
    second = Runs()
    measure(jobs, Results(tmp_path / "gpu.json", {}), tmp_path, second)
    # What is compiled is timed beside the same that is not: both again.
    assert second.begun == [("network", (OURS,)), ("compiled", COMPILED_ROWS)]
    third = Runs()
    assert measure(jobs, Results(tmp_path / "gpu.json", {}), tmp_path, third) == []
    assert third.begun == []


def test_what_finds_no_time_says_so(tmp_path: Path) -> None:
    jobs, results = plan([CASE]), Results(tmp_path / "gpu.json", {})
    runs = Runs()
    measure(jobs, results, tmp_path, runs, seconds=30)
    begun = {kind for kind, _ in runs.begun}
    assert begun == {"kernels", "stages"}
    for job in jobs:
        for row in job.rows:
            assert results.rows[job.key(row)] == (FIGURES if job.kind in begun else {"reason": OUT_OF_TIME})


def test_without_a_card_it_says_one_line_and_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--out", str(tmp_path / "none")]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "no CUDA card" in told.err
    assert not (tmp_path / "none").exists()


def test_record_page_and_picture_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(jobs: list[Job], results: Results, *rest: object) -> list[dict[str, str]]:
        results.keep(jobs[0].key(jobs[0].rows[0]), {"reason": "no"})
        return []

    monkeypatch.setattr(command, "measure", measure)
    words = ["--device", "cpu", "--cases", "compact:224:2", "--only", "service", "--out", str(tmp_path)]
    assert command.main(words) == 0
    assert (tmp_path / "gpu.svg").read_text().startswith("<svg")
    assert "# On no card" in capsys.readouterr().out
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert list(record["rows"].values()) == [{"reason": "no"}]
    assert record["card"]["driver"] == "none"


def test_a_job_that_cannot_begin_gives_every_row_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def do(*given: Any) -> None:
        given[-1].keep("stages", FIGURES)
        raise ModuleNotFoundError("No module named 'tritonclient'")

    monkeypatch.setattr(worker, "do", do)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    job = plan([CASE])[2]
    answers = tmp_path / "answers.jsonl"
    words = [json.dumps(job.wire()), "--seconds", "1", "--answers", str(answers), "--folder", str(tmp_path)]
    assert worker.main(words) == 0
    found = {answer["row"]: answer["record"] for answer in map(json.loads, answers.read_text().splitlines())}
    assert found == {
        "stages": FIGURES,
        "kernels of a clip": {"reason": "ModuleNotFoundError: No module named 'tritonclient'"},
    }

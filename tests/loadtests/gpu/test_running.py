"""A job in its own process: what it answered by its end counts, and every row ends with a figure or a reason."""

import sys
import time
from pathlib import Path

import pytest

from loadtests.cases.case import Case
from loadtests.gpu import running
from loadtests.gpu.planning.jobs import OUT_OF_TIME, Job
from loadtests.gpu.running import read_answers, run_job

JOB = Job("network", Case("compact", 224, 2), ("one", "two"), 1, 100)
WORKER = """
import json, os, sys, time
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
job = json.loads(sys.argv[1])
with open(given["--answers"], "a") as file:
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"]
    print(json.dumps({"row": job["rows"][0], "record": {"frames_per_s": 8.5}}), file=file, flush=True)
    file.write('{"row": "two", "rec')
"""


def do(tmp_path: Path, ending: str, share_s: float = 60.0) -> tuple[running.Records, list[str]]:
    said = list[str]()
    script = tmp_path / "worker.py"
    script.write_text(WORKER + ending)
    command = (sys.executable, "-S", str(script))
    return run_job(JOB, JOB.rows, share_s, tmp_path, "cpu", said.append, command=command), said


def test_a_process_that_breaks_costs_its_own_rows(tmp_path: Path) -> None:
    found, said = do(tmp_path, "sys.exit('CUDA error: an illegal memory access was encountered')")
    assert found == {
        "one": {"frames_per_s": 8.5},
        "two": {"reason": "its process ended with 1: CUDA error: an illegal memory access was encountered"},
    }
    assert said == ["  one: 8.5 frames/s"]


def test_a_process_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GENTLE_S", 0.2)
    monkeypatch.setattr(running, "POLL_S", 0.05)
    # Its time is over as soon as it has answered.
    clock = iter([0.0])
    answers = tmp_path / "network-compact-224-t2-float16.jsonl"
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 99.0 if answers.is_file() else 0.0))
    found, _ = do(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    assert found["two"] == {"reason": OUT_OF_TIME}


def test_a_silent_process_is_told_by_its_code(tmp_path: Path) -> None:
    found, _ = do(tmp_path, "sys.exit(9)")
    assert found["two"] == {"reason": "its process ended with 9: no word"}


def test_half_a_line_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    assert read_answers(file) == []
    file.write_text('{"row": "one", "record": {"us": 1}}\n{"row": "two", "rec')
    assert read_answers(file) == [("one", {"us": 1})]

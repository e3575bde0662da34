"""A job of the bench in a process of its own, which is ended when its time is over: gently, then firmly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loadtests.gpu.planning.jobs import OUT_OF_TIME, Job

MEASURING = 0.85
"""Of a job's share: what the process is told. The rest is for its start and for what it cannot stop in time."""
GENTLE_S = 20.0
POLL_S = 0.2
Records = dict[str, dict[str, Any]]


def run_job(
    job: Job,
    rows: Sequence[str],
    share_s: float,
    out: Path,
    device: str,
    say: Callable[[str], None],
    *,
    command: Sequence[str] = (sys.executable, "-m", "loadtests.gpu.worker"),
) -> Records:
    """Measure some rows of a job within its share of the time.

    Args:
        out: folder of answers, logs and builds.
        command: does the job; a stand-in in tests.
    Returns: by row its figures, or the reason for none. Every row is there.
    """
    answers = out / f"{job.kind}-{job.case.name}-{job.precision}.jsonl"
    answers.unlink(missing_ok=True)
    log = answers.with_suffix(".log")
    # New files both, never through a link that lies there.
    log.unlink(missing_ok=True)
    # One cache of Inductor's for all jobs, and for the next run, which goes on where time was over.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str((out / "inductor").absolute()), **os.environ}
    words = [json.dumps({**job.wire(), "rows": list(rows)}), "--device", device, "--answers", str(answers)]
    words += ["--seconds", str(MEASURING * share_s), "--folder", str(out / "builds")]
    with log.open("xb") as sink:
        process = subprocess.Popen(
            [*command, *words], stdout=sink, stderr=sink, start_new_session=True, env=environment
        )
        try:
            in_time = _wait(process, answers, share_s, say)
        finally:
            _end(process)
    found = {row: record for row, record in read_answers(answers) if row in rows}
    why = OUT_OF_TIME if not in_time else f"its process ended with {process.returncode}: {last_line(log)}"
    return {row: found.get(row, {"reason": why}) for row in rows}


def read_answers(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the rows that are there; a line that was not finished is none."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [(answer["row"], answer["record"]) for answer in map(json.loads, lines)]


def last_line(log: Path) -> str:
    """Return the last words of a log, or "no word" of an empty one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no word"


def _wait(process: "subprocess.Popen[bytes]", answers: Path, seconds: float, say: Callable[[str], None]) -> bool:
    """Wait for the end, and say each row as it comes; False when the time is over before."""
    end, said = time.monotonic() + seconds, 0
    while True:
        ended = process.poll() is not None
        found = read_answers(answers)
        for row, record in found[said:]:
            say(f"  {row}: {_figure(record)}")
        said = len(found)
        if ended:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)


def _figure(record: dict[str, Any]) -> str:
    if "reason" in record:
        return str(record["reason"])
    if "frames_per_s" in record:
        return f"{record['frames_per_s']:.1f} frames/s"
    own = record.get("us", {}).get("ours")
    return "measured" if own is None else f"{own['median']:.1f} us"


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GENTLE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # Whatever it left: compilers of Inductor, callers.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return

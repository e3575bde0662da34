"""Callers of the service, each a process of its own with a client of its own, one clip after the other."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from auralsam2.evaluation.quality import mean_iou
from auralsam2_client.calls.client import Client
from auralsam2_client.contract import USUAL_RESULTS
from auralsam2_client.errors import AuralServeError
from loadtests.gpu.measuring.timing import explain
from service.builds.golden import Golden

START_S = 60.0
MASK_LOGITS = "MASK_LOGITS"


@dataclass(frozen=True)
class Calls:
    """What one caller met. Times are of the machine's one monotonic clock, in seconds."""

    ended: tuple[tuple[float, float], ...]
    """Begin and end of each clip that was answered."""
    failures: tuple[str, ...]
    worst_iou: float
    """Of any answer's masks with the build's golden ones."""


def call_in_turn(
    ask: Callable[[], np.ndarray[Any, Any]],
    wanted: np.ndarray[Any, Any],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Calls:
    """Ask again and again until the time is over; masks are compared when all is done.

    Args:
        ask: sends the clip and returns its mask logits.
        wanted: the logits that it should answer.
    """
    end, ended, failures = clock() + seconds, list[tuple[float, float]](), list[str]()
    answers: dict[bytes, np.ndarray[Any, Any]] = {}
    while (begun := clock()) < end:
        try:
            answer = ask()
        except AuralServeError as error:
            failures.append(explain(error))
            continue
        ended.append((begun, clock()))
        masks = answer > 0
        answers[np.packbits(masks).tobytes()] = masks
    worst = min((mean_iou(masks, wanted > 0) for masks in answers.values()), default=0.0)
    return Calls(tuple(ended), tuple(failures), worst)


def summarise_calls(calls: Sequence[Calls], num_frames: int) -> dict[str, Any]:
    """Compute the rate while all of them called, and percentiles of what a clip took.

    Returns: figures, or a reason where no clip was answered.
    """
    ended = [call for caller in calls for call in caller.ended]
    failures = [failure for caller in calls for failure in caller.failures]
    if not all(caller.ended for caller in calls):
        return {"reason": f"a caller got no answer; {failures[0] if failures else 'none came in the time'}"}
    begin = max(caller.ended[0][0] for caller in calls)
    end = min(caller.ended[-1][1] for caller in calls)
    within = sum(begin < done <= end for _, done in ended)
    latency_ms = [1e3 * (done - begun) for begun, done in ended]
    p20, p50, p80, p95 = (float(np.quantile(latency_ms, share)) for share in (0.2, 0.5, 0.8, 0.95))
    return {
        "frames_per_s": num_frames * within / (end - begin),
        "p20_ms": p20,
        "median_ms": p50,
        "p80_ms": p80,
        "p95_ms": p95,
        "clips": len(ended),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
        "mask_iou": min(caller.worst_iou for caller in calls),
    }


def drive(url: str, build: Path, callers: int, seconds: float) -> list[Calls]:
    """Let so many callers send the golden clip of a build for so many seconds, all at once.

    Raises: AuralServeError when a caller ends without saying what it met.
    """
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(callers), context.Queue()
    processes = [
        context.Process(target=_run, args=(url, build, seconds, barrier, answers), daemon=True) for _ in range(callers)
    ]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=2 * START_S + seconds) for _ in processes]
    except Empty as error:
        raise AuralServeError(f"a caller of {callers} did not end {START_S:.0f} s after its time.") from error
    finally:
        for process in processes:
            process.join(5)
            process.kill()


def _run(url: str, build: Path, seconds: float, barrier: Any, answers: Any) -> None:
    try:
        golden = Golden.load(build)
        with Client(url, timeout_s=START_S) as client:

            def ask() -> np.ndarray[Any, Any]:
                found: np.ndarray[Any, Any] = client.infer(golden.frames, golden.audio, outputs=USUAL_RESULTS)[
                    MASK_LOGITS
                ]
                return found

            ask()
            barrier.wait(START_S)
            answers.put(call_in_turn(ask, golden.reference[MASK_LOGITS], seconds))
    except Exception as error:  # noqa: BLE001  (told in the parent)
        barrier.abort()
        answers.put(Calls((), (explain(error),), 0.0))

"""Times of what runs on a card, by CUDA events, and of several things in turns; on a CPU by the clock."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

Operation = Callable[[], Any]
WARM_UPS = 2
LEAST_ROUNDS, MOST_ROUNDS = 5, 40


class Timer(Protocol):
    """Takes an operation, runs it once, and says in milliseconds how long it took to its end."""

    def __call__(self, operation: Operation) -> float: ...


class CudaTimer:
    """Between two CUDA events: what the card waited for the host in between counts, what came before does not."""

    def __init__(self) -> None:
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def __call__(self, operation: Operation) -> float:
        torch.cuda.synchronize()
        self._begin.record()
        operation()
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end))


class WallTimer:
    """By the clock of the host."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def __call__(self, operation: Operation) -> float:
        begun = self._clock()
        operation()
        return 1e3 * (self._clock() - begun)


def timer_for(device: str) -> Timer:
    return CudaTimer() if device == "cuda" else WallTimer()


def explain(error: BaseException) -> str:
    """Say in one line what went wrong, for a row that has no figure."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def in_turns(
    operations: Mapping[str, Operation],
    timer: Timer,
    *,
    seconds: float,
    most_rounds: int = MOST_ROUNDS,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time each operation once a round, one after the other, so that a slow moment slows all.

    Args:
        seconds: no round is begun after them, but LEAST_ROUNDS are run in any case.
    Returns: milliseconds by name, the warm-up left out; and by name why one failed, which then has no times.
    """
    times: dict[str, list[float]] = {name: [] for name in operations}
    failures: dict[str, str] = {}
    end = clock() + seconds
    gc.collect()
    for number in range(WARM_UPS + most_rounds):
        if number >= WARM_UPS + LEAST_ROUNDS and clock() >= end:
            break
        for name, operation in operations.items():
            if name in failures:
                continue
            try:
                took = timer(operation)
            except Exception as error:  # noqa: BLE001  (it becomes the row's reason)
                failures[name] = explain(error)
                del times[name]
                continue
            if number >= WARM_UPS:
                times[name].append(took)
    return times, failures


def summarise(times_ms: Sequence[float]) -> dict[str, float]:
    """Compute median, p20 and p80 in milliseconds. There is one time at least."""
    ordered = sorted(times_ms)
    return {
        "median_ms": statistics.median(ordered),
        "p20_ms": ordered[len(ordered) // 5],
        "p80_ms": ordered[-1 - len(ordered) // 5],
        "rounds": len(ordered),
    }

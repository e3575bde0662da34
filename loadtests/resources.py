"""What a server holds while a load runs: memory and files by process, shared memory, and what stays after it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from service.server.launcher import Launcher
from service.supervision.exporter import processes, shared_memory_bytes


@dataclass(frozen=True)
class Reading:
    """At one moment, over all processes of the server."""

    at_s: float
    resident_bytes: int
    open_files: int
    num_processes: int
    shared_memory_bytes: int


def read(launcher: Launcher) -> Reading:
    found = processes(launcher.pid)
    return Reading(
        time.monotonic(),
        sum(use.resident_bytes for use in found),
        sum(use.open_files for use in found),
        len(found),
        shared_memory_bytes(launcher.mark),
    )


@contextmanager
def watch(launcher: Launcher, every_s: float = 1.0) -> Iterator[list[Reading]]:
    """Take readings while the block runs, and yield them in the order in which they were taken."""
    readings = [read(launcher)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every_s):
            readings.append(read(launcher))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        ended.set()
        thread.join(10)
        readings.append(read(launcher))


def growth(readings: list[Reading], warm_up_s: float) -> dict[str, float]:
    """Compute how much memory grew after the warm-up: mean of the last tenth over mean of the first tenth after it."""
    start = readings[0].at_s + warm_up_s
    late = [reading for reading in readings if reading.at_s >= start]
    if len(late) < 2:
        raise ValueError(f"{len(late)} readings after {warm_up_s:g} s of warm-up; at least 2 are needed.")
    part = max(1, len(late) // 10)
    result = {}
    for name in ("resident_bytes", "open_files", "num_processes", "shared_memory_bytes"):
        first, last = (float(np.mean([getattr(r, name) for r in rows])) for rows in (late[:part], late[-part:]))
        result[name] = last / first - 1 if first else 0.0
    return result

"""The rows of a clip: every way is built, compared with the published form by its masks, then timed in turns."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from loadtests.gpu.clip.ways import FORMS, Bench, Way
from loadtests.gpu.measuring.timing import explain, in_turns, summarise, timer_for
from loadtests.gpu.planning import jobs

Keep = Callable[[str, dict[str, Any]], None]
BUILDING = 0.6
"""Of the time, at most: what is not built by then is left out, so that the others are timed."""


def measure_network(
    bench: Bench,
    rows: Sequence[str],
    seconds: float,
    keep: Keep,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure ways of a clip; `keep` gets each row as soon as it is known, or why it has no figure."""
    end = clock() + seconds
    latest = clock() + BUILDING * seconds
    ways: dict[str, Way] = {}
    for row in rows:
        # Compiling is what a job is for: it is begun whenever anything is left.
        if clock() >= latest and not FORMS[row].compiled:
            keep(row, {"reason": jobs.OUT_OF_TIME})
            continue
        try:
            ways[row] = bench.prepare(FORMS[row])
        except Exception as error:  # noqa: BLE001  (it becomes the row's reason)
            keep(row, {"reason": explain(error)})
    operations = {row: way.operation for row, way in ways.items()}
    times, failures = in_turns(operations, timer_for(bench.device), seconds=max(0.0, end - clock()), clock=clock)
    for row, why in failures.items():
        keep(row, {"reason": why})
    for row, own in times.items():
        figures = summarise(own)
        way = ways[row]
        keep(
            row,
            {
                **figures,
                "frames_per_s": 1e3 * bench.case.num_frames / figures["median_ms"],
                "fastest_frames_per_s": 1e3 * bench.case.num_frames / figures["p20_ms"],
                "slowest_frames_per_s": 1e3 * bench.case.num_frames / figures["p80_ms"],
                "mask_iou": way.mask_iou,
                "peak_bytes": way.peak_bytes,
                "ready_s": way.ready_s,
            },
        )

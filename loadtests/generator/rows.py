"""Rows of locust's statistics that locust does not know: frames, and the stages' milliseconds as the server says.

A row stands in the console's summary, in the web page, in the HTML report and in the CSV. A row `frames` counts frames,
so that its requests a second are frames a second. Rows `stage`, `queue` and `compute` hold the server's own means of
two seconds each; they count every caller of that server. None of them adds to locust's total.
"""

from collections.abc import Iterator
from typing import Any

from auralsam2_client.contract import ENSEMBLE, NETWORK, STAGE_NAMES
from service.monitoring.metrics import StageTime, fetch, stage_times

MODELS = (*STAGE_NAMES, NETWORK, ENSEMBLE)
FRAMES, STAGE, QUEUE, COMPUTE = "frames", "stage", "queue", "compute"


class StageRows:
    """What a server's stages took since the last reading. Raises: ServerUnavailable, ServerFault, as `fetch`."""

    def __init__(self, page: str) -> None:
        self._page, self._before = page, fetch(page)

    def read(self, stats: Any) -> None:
        """Read the page and add what is new to locust's statistics. Raises: as `fetch`."""
        after = fetch(self._page)
        before, self._before = self._before, after
        times = stage_times(before, after)
        for model in MODELS:
            if model in times:
                add_stage(stats, model, times[model])


def add_stage(stats: Any, model: str, time: StageTime) -> None:
    """Add so many requests of a model, each with their mean, to its rows."""
    for kind, milliseconds in ((STAGE, time.total_ms), (QUEUE, time.queue_ms), (COMPUTE, time.infer_ms)):
        row = stats.get(model, kind)
        for _ in range(time.num_requests):
            row.log(milliseconds, 0)


def add_frames(stats: Any, name: str, count: int) -> None:
    """Count frames that were answered. They have no response time of their own."""
    row = stats.get(name, FRAMES)
    for _ in range(count):
        row.log(None, 0)


def sentences(stats: Any) -> Iterator[str]:
    """Say in words, with decimals, what the rows hold."""
    rows = dict(stats.entries)
    for (name, kind), row in sorted(rows.items()):
        if kind == FRAMES:
            yield f"{row.total_rps:.1f} frames a second answered ({name})"
    for model in MODELS:
        if (model, STAGE) in rows:
            total, queue, compute = (rows[model, kind].avg_response_time for kind in (STAGE, QUEUE, COMPUTE))
            yield f"{model:14} {total:8.1f} ms: queue {queue:.1f}, compute {compute:.1f}"

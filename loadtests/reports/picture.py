"""The picture of a load test, drawn without a display."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from loadtests.generator.sender import OK, Outcome
from loadtests.reports.summary import machine_sentence

mpl.use("Agg")

from matplotlib.figure import Figure

from auralsam2_client.new_file import new_file

SIZE_INCHES, DPI = (9.0, 3.4), 110
_STAGE_COLOURS = ("#4e79a7", "#59a14f", "#f28e2b", "#b07aa1")


def draw_run(record: dict[str, Any], outcomes: list[Outcome], path: Path) -> None:
    """Draw frames a second over time, the spread of latency, and where a clip's time goes."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    rate, spread, share = figure.subplots(1, 3)
    start = min((outcome.due_s for outcome in outcomes), default=0.0)
    duration = float(record["load"]["duration_s"])
    good = [outcome for outcome in outcomes if outcome.code == OK]
    frames = record["summary"]["frames_per_s"] / (record["summary"]["answered_clips_per_s"] or 1)
    width = max(1.0, duration / 40)
    edges = np.arange(0, duration + width, width)
    counts, _ = np.histogram([outcome.done_s - start for outcome in good], edges)
    rate.step(edges[:-1], counts * frames / width, where="post", color=_STAGE_COLOURS[0])
    rate.set(title="frames per second", xlabel="s", ylim=(0, None), xlim=(0, duration))
    latencies = sorted(1e3 * outcome.latency_s for outcome in good)
    spread.plot(latencies, np.linspace(0, 100, len(latencies)), color=_STAGE_COLOURS[0])
    spread.set(title="clips answered within, %", xlabel="ms", ylim=(0, 101), xlim=(0, None))
    stages = {name: time for name, time in record["stages_ms"].items() if name != "auralsam2"}
    for index, (key, colour) in enumerate((("queue_ms", "#bab0ac"), ("infer_ms", _STAGE_COLOURS[0]))):
        left = [0.0] * len(stages) if index == 0 else [time["queue_ms"] for time in stages.values()]
        label = "queue" if index == 0 else "compute"
        share.barh(list(stages), [time[key] for time in stages.values()], left=left, color=colour, label=label)
    share.invert_yaxis()
    share.set(title="ms a clip by stage", xlabel="ms")
    share.legend(frameon=False)
    figure.supxlabel(
        f"{record['build']}, {record['engine']}; {record['load']['loop']}; {machine_sentence(record['machine'])}",
        fontsize=7,
    )
    with new_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])

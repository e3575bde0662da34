"""Pictures of a load test and of the throughput table, drawn without a display."""

import textwrap
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
CAPTION_WIDTH = 170
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


def draw_table(rows: list[dict[str, Any]], caption: str, path: Path) -> None:
    """Draw bars of the measured rows, with p20 and p80; a panel with a scale of its own for each build."""
    measured = [row for row in rows if row.get("fps")]
    builds = list(dict.fromkeys(row["build"] for row in measured))
    groups = [[row for row in measured if row["build"] == build] for build in builds]
    figure = Figure(figsize=(9.0, 0.5 * len(measured) + 0.6 * len(builds) + 0.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(
        max(1, len(builds)), 1, squeeze=False, height_ratios=[len(group) for group in groups] or [1]
    )
    for axes, build, group in zip(panels[:, 0], builds, groups, strict=False):
        places = range(len(group))
        values = [row["fps"]["median"] for row in group]
        errors = [[row["fps"]["median"] - row["fps"]["p20"] for row in group]]
        errors += [[row["fps"]["p80"] - row["fps"]["median"] for row in group]]
        axes.barh(places, values, xerr=np.abs(errors), color=_STAGE_COLOURS[0], height=0.6)
        for place, row in zip(places, group, strict=True):
            axes.text(row["fps"]["p80"], place, f"  {row['fps']['median']:.1f}", va="center", fontsize=9)
        axes.set_yticks(places, [f"{row['method']}\n{row['prompts']}" for row in group])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(row["fps"]["p80"] for row in group))
        axes.set_title(f"{build}, frames per second", fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
    figure.supxlabel(textwrap.fill(caption, CAPTION_WIDTH), fontsize=7)
    with new_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])

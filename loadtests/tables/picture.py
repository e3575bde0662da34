"""Table 1 as a picture: frames a second and M_J by row, beside the paper's as shares of its own AuralSAM2 by sound."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from auralsam2_client.new_file import new_file
from loadtests.tables import paper

DPI, CAPTION_WIDTH = 110, 170
HERE, PUBLISHED, THEIRS = "#4e79a7", "#59a14f", "#bab0ac"


def draw(speeds: Mapping[str, Any], quality: Mapping[str, Any], caption: str, path: Path) -> None:
    """Draw what was measured of the rows; a row that was not is left blank."""
    rows, beside = paper.TABLE_1, next(row for row in paper.TABLE_1 if row.key == paper.BESIDE)
    figure = Figure(figsize=(11.0, 6.4), dpi=DPI, layout="constrained")
    ratio, score = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    for offset, colour, label, values in (
        (-0.27, HERE, "service, here", [speeds.get(row.key, {}).get("of_beside") or 0 for row in rows]),
        (0.0, PUBLISHED, "published form, here", [speeds.get(r.key, {}).get("published_of_beside") or 0 for r in rows]),
        (0.27, THEIRS, "paper, its GPU", [row.fps / beside.fps for row in rows]),
    ):
        ratio.barh([place + offset for place in places], values, height=0.26, color=colour, label=label)
    ratio.axvline(1, color="#333333", linewidth=0.6)
    ratio.set_yticks(places, [f"{row.name}\n{row.prompts}" for row in rows], fontsize=7)
    ratio.invert_yaxis()
    ratio.set_title("frames a second, AuralSAM2 by sound = 1", fontsize=9)
    ratio.legend(frameon=False, fontsize=7)
    for place, row in zip(places, rows, strict=True):
        if row.key in quality:
            mean, low, high = (100 * each for each in quality[row.key]["m_j"])
            score.errorbar(mean, place - 0.12, xerr=[[mean - low], [high - mean]], fmt="o", color=HERE, markersize=4)
        score.plot(row.m_j, place + 0.12, "s", color=THEIRS, markersize=4)
    score.set_title("M_J, % (blue: here, 95 % over clips; grey: paper, V1M)", fontsize=9)
    score.grid(axis="x", linewidth=0.3)
    figure.supxlabel(textwrap.fill(caption, CAPTION_WIDTH), fontsize=7)
    with new_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])

"""The picture of a bench as SVG, written by itself: where a card is, there may be nothing that draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from loadtests.gpu.planning.jobs import READY_ROW, Job
from loadtests.gpu.report.tables import Rows, rows_with_figures

COLOURS = {"published": "#bab0ac", "SAM2": "#f28e2b", "ours": "#4e79a7", "service": "#59a14f"}
WIDTH, LEFT, RIGHT, ROW, BAR = 900, 330, 80, 24, 15
FONT = "font-family='sans-serif'"


@dataclass(frozen=True)
class Bar:
    """One row: a median, and the marks of p20 and p80 where there are some."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def colour(self) -> str:
        return next((colour for word, colour in COLOURS.items() if self.label.startswith(word)), "#76b7b2")


@dataclass(frozen=True)
class Panel:
    title: str
    bars: Sequence[Bar]
    digits: int = 0


def panels(jobs: Sequence[Job], rows: Rows) -> list[Panel]:
    """Make a panel of frames a second for each case, network and service, and one of the operators' microseconds."""
    speeds: dict[str, list[Bar]] = {}
    for job, row, record in rows_with_figures(jobs, rows, ("network", "compiled", "service")):
        if row == READY_ROW or (job.kind == "compiled" and row == job.rows[0]):
            continue
        title = f"{job.case.preset}, {job.case.image_size} px, {job.case.num_frames} frames: frames a second"
        low, high = record.get("slowest_frames_per_s"), record.get("fastest_frames_per_s")
        speeds.setdefault(title, []).append(Bar(row, record["frames_per_s"], low, high))
    found = [Panel(title, bars) for title, bars in speeds.items()]
    operators = [
        Bar(f"{form}: {row}", own["median"], own["p20"], own["p80"])
        for _, row, record in rows_with_figures(jobs, rows, ("kernels",))
        for form, own in record.get("us", {}).items()
    ]
    return [*found, Panel("fused operators: microseconds", operators, 1)] if operators else found


def draw(drawn: Sequence[Panel], caption: str) -> str:
    """Draw the panels below each other, each with a scale of its own."""
    parts, top = list[str](), 10
    for panel in drawn:
        parts.append(_text(10, top + 14, panel.title, size=13, weight="bold"))
        top += ROW
        longest = max([bar.high or bar.value for bar in panel.bars], default=0.0) or 1.0
        scale = (WIDTH - LEFT - RIGHT) / longest
        for bar in panel.bars:
            parts += _bar(bar, top, scale, panel.digits)
            top += ROW
        top += ROW // 2
    parts.append(_text(10, top + 10, caption, size=9))
    height = top + ROW
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'>"
    return "\n".join([head, f"<rect width='{WIDTH}' height='{height}' fill='white'/>", *parts, "</svg>"]) + "\n"


def _bar(bar: Bar, top: int, scale: float, digits: int) -> list[str]:
    middle, end = top + BAR // 2, LEFT + bar.value * scale
    parts = [
        _text(LEFT - 8, top + BAR - 3, bar.label, anchor="end"),
        f"<rect x='{LEFT}' y='{top}' width='{max(bar.value * scale, 1):.1f}' height='{BAR}' fill='{bar.colour}'/>",
    ]
    if bar.low is not None and bar.high is not None:
        low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
        parts.append(f"<path d='M{low:.1f} {middle}H{high:.1f}' stroke='black' stroke-width='1.5'/>")
        end = max(end, high)
    return [*parts, _text(end + 6, top + BAR - 3, f"{bar.value:.{digits}f}")]


def _text(x: float, y: float, words: str, *, size: int = 11, anchor: str = "start", weight: str = "normal") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' font-weight='{weight}'"
    return f"<text {place} {FONT}>{escape(words)}</text>"

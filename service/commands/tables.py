"""Tables for a person at a terminal."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from service.commands.demo import DemoResult
from service.findings import Finding

if TYPE_CHECKING:
    from auralsam2.evaluation.scoring import SplitReport


def demo_table(result: DemoResult) -> Table:
    """Tabulate milliseconds and share of each stage, the rest of the way, and frames a second."""
    table = Table(title=f"one clip of {result.num_frames} frames, from call to answer")
    table.add_column("stage")
    table.add_column("milliseconds", justify="right")
    table.add_column("share", justify="right")

    def row(name: str, milliseconds: float, style: str | None = None) -> None:
        table.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / result.clip_ms:.1%}", style=style)

    for name, stage in result.stages.items():
        row(name, stage.infer_ms)
    # Everything that is not an engine at work: resizing, gRPC, copies between stages, masks enlarged.
    row("client and hand-over", result.clip_ms - sum(stage.infer_ms for stage in result.stages.values()))
    table.add_section()
    row("total", result.clip_ms, style="bold")
    table.add_row("frames per second", f"{result.frames_per_second:.1f}", "")
    return table


def doctor_table(findings: list[Finding]) -> Table:
    """Tabulate the checks, one a row: what was found and, where something is missing, the fix."""
    table = Table(title="what this machine has")
    for column in ("check", "", "found", "fix"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("missing", "yellow" if finding.needed_for else "red")
        fix = finding.fix if not finding.needed_for or finding.ok else f"{finding.fix} (for: {finding.needed_for})"
        table.add_row(finding.name, mark, finding.found, "" if finding.ok else fix)
    return table


def figures_table(reports: "list[SplitReport]", title: str) -> Table:
    """Tabulate the figures of each split, a row a read-out; `*` marks the protocol's."""
    table = Table(title=title)
    table.add_column("split")
    table.add_column("read-out", no_wrap=True)
    for column in ("M_J", "M_J with object", "M_F", "empty masks", "S"):
        table.add_column(column, justify="right")

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    for report in reports:
        for position, (read_out, score) in enumerate(report.scores.items()):
            about = f"{report.split}, {report.num_clips} clips{_of_all(report)}" if position == 0 else ""
            figures = (score.mean_jaccard, score.mean_jaccard_with_object, score.mean_f_score)
            marked = f"{read_out} *" if read_out == report.headline else read_out
            table.add_row(about, marked, *map(shown, figures), f"{score.empty_share:.1%}", shown(score.null_score))
        table.add_section()
    return table


def _of_all(report: "SplitReport") -> str:
    return f" of {report.num_clips + len(report.left_out)}" if report.left_out else ""

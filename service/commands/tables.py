"""Tables for a person at a terminal."""

from rich.table import Table
from rich.text import Text

from service.commands.demo import DemoResult
from service.commands.doctor import Finding


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
    table.add_row("frames per second", f"{1e3 * result.num_frames / result.clip_ms:.1f}", "")
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

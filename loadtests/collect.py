"""`python -m loadtests.collect`: keep what the benches and `make loadtest` wrote, as loadtests/results/.

The page loadtests/results/README.md is made of the kept files alone, and a test makes it again; the project's README
quotes it.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auralsam2_client.new_file import new_file, write_new
from loadtests.chaos import report as chaos
from loadtests.cpu import growth, report, savings
from loadtests.run import describe
from loadtests.segmenting import report as segmenting
from loadtests.tables.report import markdown as tables
from loadtests.wire import report as wire

RESULTS = Path(__file__).parent / "results"
CASES = "case_*.json"
# From which file of out/ each is taken.
SOURCES = {
    "growth.json": "bench-cpu/growth.json",
    "growth.png": "bench-cpu/growth.png",
    "savings.json": "bench-cpu/savings.json",
    "waterfall.png": "bench-cpu/waterfall.png",
    "sessions.json": "bench-sessions.json",
    "wire.json": "bench-wire/wire.json",
    "segment.json": "bench-segment/segment.json",
    "load.json": "load/load.json",
    "load.png": "load/load.png",
    "tables.json": "tables/tables.json",
    "tables.png": "tables/tables.png",
    "overload.json": "load/overload.json",
    "soak.json": "soak/load.json",
    "chaos.json": "chaos/chaos.json",
}


def collect(out: Path, results: Path) -> list[str]:
    """Copy what is there; return the names of what is not, which stays as it was."""
    results.mkdir(parents=True, exist_ok=True)
    for path in sorted((out / "bench-cpu").glob("*-t*-*.json")):
        with new_file(results / f"case_{path.name}") as partial:
            shutil.copyfile(path, partial)
    missing = []
    for name, source in SOURCES.items():
        if (out / source).is_file():
            with new_file(results / name) as partial:
                shutil.copyfile(out / source, partial)
        else:
            missing.append(source)
    return missing


def page(results: Path) -> str:
    """Write the page as Markdown; a part whose file is not kept is left out."""
    parts = ["# What was measured\n\nMade by `python -m loadtests.collect` from the files beside it; do not edit.\n"]

    def part(name: str, title: str, write: Any) -> None:
        path = results / name
        if path.is_file():
            parts.append(f"## {title}\n\n{write(json.loads(path.read_text())).strip()}\n")

    records = [json.loads(path.read_text()) for path in sorted(results.glob(CASES), key=_size)]
    if records:
        table = report.markdown(records, records[0]["machine"])
        parts.append(f"## A clip on this CPU (`make bench`)\n\n{table.strip()}\n\n![seconds by stage](waterfall.png)\n")
    part("savings.json", "What each saving saves (`make bench`)", savings.markdown)
    part("growth.json", "Longer clips, more callers (`make bench`)", growth.markdown)
    part("sessions.json", "Rounds of a session (`make bench-sessions`)", sessions)
    part("wire.json", "The wire (`make bench-wire`)", wire.markdown)
    part("segment.json", "A ten-minute video (`make bench-segment`)", segmenting.markdown)
    part("tables.json", "The paper's tables (`make tables`)", tables)
    part("load.json", "Two minutes of load (`make loadtest`)", lambda found: f"```\n{describe(found)}\n```")
    part("overload.json", "Overload (`make loadtest`)", overload)
    part("soak.json", "A quarter of an hour (`python -m loadtests.run --scenario soak`)", soak)
    part("chaos.json", "Faults under load (`make chaos`)", chaos.markdown)
    return "\n".join(parts)


def _size(path: Path) -> tuple[str, int, int]:
    record = json.loads(path.read_text())
    return record["preset"], record["image_size"], record["num_frames"]


def sessions(record: dict[str, Any]) -> str:
    lines = ["| request | median, ms | of the first round |", "|---|---:|---:|"]
    for name in ("first", *record["shares"]):
        share = record["shares"].get(name)
        told = "" if share is None else f"{share:.1%}"
        lines.append(f"| {name} | {1e3 * statistics.median(record[name]):.0f} | {told} |")
    empty, full, after = (value / 1e6 for value in record["memory_bytes"])
    lines += ["", f"`{record['build']}`, {record['precision']}. Memory: {empty:.0f} MB without sessions,"]
    lines[-1] += f" {full:.0f} MB with some open, {after:.0f} MB after."
    return "\n".join(lines)


def overload(record: dict[str, Any]) -> str:
    lines = ["| phase | offered, clips/s | answered | p50 / p95, ms | ended as |", "|---|---:|---:|---:|---|"]
    for phase in record["phases"]:
        found = phase["summary"]
        latency = f"{found['answer_ms']['p50']:.0f} / {found['answer_ms']['p95']:.0f}"
        codes = ", ".join(f"{count} {code}" for code, count in found["by_code"].items())
        lines.append(
            f"| {phase['name']} | {found['offered_clips_per_s']:.2f} | {found['answered_clips_per_s']:.2f} |"
            f" {latency} | {codes} |"
        )
    lines.append("")
    lines += [
        f"- {'holds' if verdict['holds'] else '**does not hold**'}: {verdict['promise']}: {verdict['found']}"
        for verdict in record["verdicts"]
    ]
    return "\n".join(lines)


def soak(record: dict[str, Any]) -> str:
    return f"```\n{describe(record)}\n```"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.collect", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder that the benches wrote into; default: %(default)s"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results; default: %(default)s")
    given = parser.parse_args(arguments)
    for source in collect(given.out, given.results):
        print(f"not measured: {given.out / source}", file=sys.stderr)
    write_new(given.results / "README.md", page(given.results))
    print(f"wrote {given.results / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

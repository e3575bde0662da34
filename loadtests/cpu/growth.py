"""`python -m loadtests.cpu.growth`: frames a second as clips get longer, and as more callers come.

Lengths run in one process, in turns, so that the stages can be told apart; callers go through the service.
Writes growth.json, growth.md and growth.png.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from auralsam2_client.contract import STAGE_NAMES
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import new_file, write_new
from loadtests.cases.case import Case
from loadtests.cpu.builds import build_of, say
from loadtests.cpu.engine_chain import EngineChain
from loadtests.cpu.report import COLOURS, machine, machine_sentence
from loadtests.generator.driving import Load, drive
from loadtests.reports.summary import summarise
from service.builds.golden import Golden
from service.builds.manifest import read_manifest
from service.server.serving import serve_build

LENGTHS, CALLERS = (1, 2, 3, 5, 7, 10), (1, 2, 4)
WARM_UP_S = 3.0


def measure_lengths(builds: dict[int, Path], repeats: int) -> list[dict[str, Any]]:
    """Time a frame by stage in ms for each clip length: medians over `repeats` clips, in turns."""
    chains = {length: (EngineChain(build), Golden.load(build)) for length, build in builds.items()}
    spent: dict[int, list[dict[str, float]]] = {length: [] for length in chains}
    for turn in range(repeats + 1):
        for length, (chain, golden) in chains.items():
            chain.run(golden.frames, golden.audio)
            if turn:  # the first is the warm-up
                spent[length].append(dict(chain.spent))
    rows = []
    for length, runs in spent.items():
        stages = {name: 1e3 * statistics.median(run[name] for run in runs) / length for name in STAGE_NAMES}
        rows.append({"num_frames": length, "ms_a_frame": stages, "frames_per_s": 1e3 / sum(stages.values())})
    return rows


def measure_callers(
    build: Path, num_frames: int, callers: Sequence[int], seconds: float, out: Path
) -> list[dict[str, Any]]:
    """Measure frames a second and latency for so many callers in a closed loop. Raises: AuralServeError."""
    rows = []
    with serve_build(build) as launcher:
        for count in callers:
            outcomes = drive(launcher.config.grpc_url, Load(seconds, users=count), out, name=f"callers_{count}")
            summary = summarise(outcomes, num_frames, seconds, WARM_UP_S)
            rows.append(
                {"callers": count, "frames_per_s": summary.frames_per_s, "latency_ms": summary.latency_ms}
                | {"by_code": summary.by_code}
            )
            say(f"callers    {count}: {summary.frames_per_s:.1f} frames/s")
    return rows


def markdown(record: dict[str, Any]) -> str:
    lines = ["| frames a clip | frames/s | " + " | ".join(f"{name}, ms a frame" for name in STAGE_NAMES) + " |"]
    lines.append("|---:" * (2 + len(STAGE_NAMES)) + "|")
    for row in record["lengths"]:
        stages = " | ".join(f"{row['ms_a_frame'][name]:.1f}" for name in STAGE_NAMES)
        lines.append(f"| {row['num_frames']} | {row['frames_per_s']:.1f} | {stages} |")
    lines += ["", "| callers | frames/s | p50, ms a clip | p95 |", "|---:|---:|---:|---:|"]
    for row in record["callers"]:
        latency = row["latency_ms"]
        lines.append(f"| {row['callers']} | {row['frames_per_s']:.1f} | {latency['p50']:.0f} | {latency['p95']:.0f} |")
    lines += ["", f"`{record['preset']}`, {record['image_size']} px, {record['precision']}."]
    lines.append(f"{machine_sentence(record['machine'])}.")
    return "\n".join(lines) + "\n"


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw milliseconds a frame by stage over the length, and frames a second over the callers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    lengths = [row["num_frames"] for row in record["lengths"]]
    bottom = [0.0] * len(lengths)
    for name, colour in zip(STAGE_NAMES, COLOURS, strict=True):
        heights = [row["ms_a_frame"][name] for row in record["lengths"]]
        left.bar([str(length) for length in lengths], heights, bottom=bottom, color=colour, label=name)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    left.set(title="ms a frame, one process", xlabel="frames a clip", ylim=(0, 1.25 * max(bottom)))
    left.legend(fontsize=7, frameon=False, loc="upper left", ncols=len(STAGE_NAMES))
    right.plot(
        [row["callers"] for row in record["callers"]],
        [row["frames_per_s"] for row in record["callers"]],
        marker="o",
        color=COLOURS[0],
    )
    highest = max(row["frames_per_s"] for row in record["callers"])
    right.set(title="frames/s through gRPC", xlabel="callers", ylim=(0, 1.1 * highest))
    caption = (
        f"{record['preset']}, {record['image_size']} px, {record['precision']}; {machine_sentence(record['machine'])}"
    )
    figure.supxlabel(caption, fontsize=7)
    with new_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])


def main(arguments: Sequence[str] | None = None, build: Callable[[Case, str], Path] = build_of) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.cpu.growth", description=__doc__)
    parser.add_argument("--preset", default="compact", help="of the network; default: %(default)s")
    parser.add_argument("--image-size", type=int, default=256, help="px of a side; default: %(default)s")
    parser.add_argument(
        "--precision", default="auto", help="of the exports: auto | float32 | bfloat16; default: %(default)s"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="frames a clip; default: %(default)s")
    parser.add_argument(
        "--callers", type=int, nargs="+", default=CALLERS, help="callers at a time; default: %(default)s"
    )
    parser.add_argument(
        "--callers-length", type=int, default=5, help="frames a clip of the callers; default: %(default)s"
    )
    parser.add_argument("--repeats", type=int, default=20, help="calls of each length; default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="seconds of load for each number of callers; default: %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/growth-cpu"), help="folder for the report; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        lengths = sorted({*given.lengths, given.callers_length})
        builds = {length: build(Case(given.preset, given.image_size, length), given.precision) for length in lengths}
        record = {
            "preset": given.preset,
            "image_size": given.image_size,
            # As it was resolved: "auto" says nothing to who reads the page.
            "precision": read_manifest(builds[given.callers_length]).precision,
            "machine": machine(),
            "lengths": measure_lengths(builds, given.repeats),
            "callers": measure_callers(
                builds[given.callers_length], given.callers_length, given.callers, given.seconds, given.out
            ),
        }
    except (AuralServeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_new(given.out / "growth.json", json.dumps(record, indent=1) + "\n")
    text = markdown(record)
    write_new(given.out / "growth.md", text)
    draw(record, given.out / "growth.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

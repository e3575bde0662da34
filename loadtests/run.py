"""A load test from start to end: the embedded server, the load, and what both sides counted.

Writes load.html and load_*.csv (locust's own), load.json and load.png.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from auralsam2_client.calls.frame_wire import RAW, WIRES
from auralsam2_client.contract import NETWORK, STAGE_NAMES
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.generator.driving import Load, drive
from loadtests.generator.flags import positive, run_time
from loadtests.generator.modes import MODES
from loadtests.generator.scenarios import SCENARIOS
from loadtests.generator.sender import Outcome
from loadtests.reports.picture import draw_run
from loadtests.reports.summary import machine, machine_sentence, summarise
from loadtests.resources import growth, watch
from service.builds.manifest import read_manifest
from service.monitoring.metrics import fetch, stage_times
from service.server.serving import serve_build

NAME = "load"
WARM_UP_S = 5.0
# Long enough that what grows at first has grown: buffers of callers, shared memory of the stages.
SOAK_WARM_UP_SHARE = 0.2


def run(build: Path, load: Load, out: Path, note: str = "") -> dict[str, Any]:
    """Serve `build`, run `load`, write the report into `out`, and return what load.json says.

    Args:
        note: what a reader should know of this run.
    Raises: AuralServeError when the server does not start or the generator does not run.
    """
    manifest = read_manifest(build)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        launcher = stack.enter_context(serve_build(build, log=out / "server.log"))
        config = launcher.config
        before = fetch(config.metrics_url)
        readings = stack.enter_context(watch(launcher))
        reports = ("--html", str(out / f"{NAME}.html"), "--csv", str(out / NAME), "--metrics-url", config.metrics_url)
        outcomes = drive(config.grpc_url, load, out, name=NAME, reports=reports)
        after = fetch(config.metrics_url)
    warm_up_s = min(WARM_UP_S, load.duration_s / 4)
    summary = summarise(outcomes, manifest.num_frames, load.duration_s, warm_up_s)
    times = stage_times(before, after)
    record = {
        "build": manifest.name,
        "weights": manifest.weights,
        "engine": f"{manifest.engine} {manifest.precision}",
        "load": asdict(load) | {"loop": load.loop, "warm_up_s": warm_up_s},
        "machine": machine(),
        "summary": summary.record(),
        "requests": account(outcomes),
        "stages_ms": {name: asdict(times[name]) for name in (*STAGE_NAMES, NETWORK, config.model) if name in times},
        "growth": growth(readings, SOAK_WARM_UP_SHARE * load.duration_s),
        "resources": [asdict(reading) for reading in _thin_out(readings)],
        "note": note,
    }
    write_new(out / f"{NAME}.json", json.dumps(record, indent=1) + "\n")
    draw_run(record, outcomes, out / f"{NAME}.png")
    return record


def account(outcomes: list[Outcome]) -> dict[str, int]:
    """Count how often each id came back. None may be missing or twice, whatever the answer was."""
    ids = [outcome.id for outcome in outcomes]
    callers: dict[str, int] = {}
    for name in ids:
        caller, _, number = name.rpartition("-")
        callers[caller] = max(callers.get(caller, 0), int(number))
    return {"sent": sum(callers.values()), "ended": len(ids), "ended_twice": len(ids) - len(set(ids))}


def _thin_out(readings: list[Any], most: int = 60) -> list[Any]:
    step = -(-len(readings) // most)
    return readings[::step]


def describe(record: dict[str, Any]) -> str:
    """Describe the run in a few lines, for a terminal."""
    summary, stages = record["summary"], record["stages_ms"]
    latency = "  ".join(f"{name} {value:.0f}" for name, value in summary["latency_ms"].items())
    lines = [
        f"{summary['frames_per_s']:.1f} frames/s, {summary['answered_clips_per_s']:.2f} clips/s answered;"
        f" {summary['offered_clips_per_s']:.2f} offered, {summary['achieved_clips_per_s']:.2f} achieved",
        f"latency in ms: {latency}; first request {summary['first_request_ms']:.0f}",
        f"ended as: {summary['by_code']}; ids: {record['requests']}",
    ]
    if summary["refusal_ms"]:
        refusals = "  ".join(f"{name} {value:.0f}" for name, value in summary["refusal_ms"].items())
        lines.append(f"refused after, in ms: {refusals}")
    for name, time in stages.items():
        lines.append(
            f"{name:14} {time['total_ms']:8.1f} ms: queue {time['queue_ms']:.1f}, compute {time['infer_ms']:.1f},"
            f" in and out {time['input_ms'] + time['output_ms']:.1f}"
        )
    grown = record["growth"]
    lines.append(
        f"memory {grown['resident_bytes']:+.2%}, files {grown['open_files']:+.2%},"
        f" shared memory {grown['shared_memory_bytes']:+.2%} over the run"
    )
    lines.append(
        f"{record['build']}, {record['engine']}; {record['load']['loop']}, {record['load']['scenario']},"
        f" {record['load']['duration_s']:g} s; {machine_sentence(record['machine'])}"
    )
    if record.get("note"):
        lines.append(record["note"])
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("out") / "load", help="folder for the report; default: %(default)s"
    )
    # Locust's own names, and its forms of a time.
    parser.add_argument(
        "-t",
        "--run-time",
        "--duration",
        type=run_time,
        default=120,
        help="as 90, 90s, 5m or 1h30m; default: %(default)s s",
    )
    parser.add_argument(
        "-u", "--users", type=positive(int), default=4, help="users of a closed loop; default: %(default)s"
    )
    parser.add_argument("-r", "--spawn-rate", type=positive(float), help="users a second; default: all at once")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="clips a second of an open loop; 0: closed; default: %(default)s"
    )
    parser.add_argument("--note", default="", help="what the report says of what ran beside it; default: nothing")
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="steady", help="default: %(default)s")
    parser.add_argument("--mode", choices=list(MODES), default="audio", help="default: %(default)s")
    parser.add_argument(
        "--source", default="procedural", help="procedural | file:PATH | avsbench:FOLDER; default: %(default)s"
    )
    parser.add_argument(
        "--wire", choices=list(WIRES), default=RAW, help="how frames go over the wire; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    load = Load(
        given.run_time,
        given.users,
        given.rate,
        given.scenario,
        given.mode,
        given.source,
        wire=given.wire,
        spawn_rate=given.spawn_rate,
    )
    try:
        record = run(given.build, load, given.out, given.note)
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(record))
    print(f"wrote {given.out}/{NAME}.html, .json, .png and locust's CSV")
    return 0


if __name__ == "__main__":
    sys.exit(main())

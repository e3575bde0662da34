"""`make bench-segment`: frames a second of `segment` on a ten-minute video, beside the load generator's.

    python -m loadtests.segmenting --build build/compact-256-t5 --out out/bench-segment

Generator and `segment` take turns on one server, so that a slow minute of the machine slows both. On a machine whose
cores the client shares with the server, each millisecond of CPU that a frame costs at the client is one less for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auralsam2_client.errors import AuralServeError, ServerFault
from auralsam2_client.new_file import write_new
from auralsam2_client.run_files import RESULT
from loadtests.generator.driving import Load, drive
from loadtests.reports.summary import machine, machine_sentence, summarise
from loadtests.segmenting.report import markdown
from loadtests.segmenting.steps import steps_ms
from loadtests.segmenting.video import long_video
from service.builds.manifest import read_manifest
from service.server.serving import serve_build

USERS = (1, 2, 4)
MOST_FRAMES = 600
WAYS = {"masks alone": ["--no-overlay"], "with overlay": []}


def segment_once(url: str, video: Path, out: Path, options: Sequence[str]) -> dict[str, float]:
    """Run `segment` as a process of its own. Raises: ServerFault when it fails."""
    command = [sys.executable, "-m", "service.commands.cli", "segment", str(video), "--url", url, "--out", str(out)]
    # The video is made of whole pieces, and a little longer than was asked for.
    command += ["--max-frames", str(MOST_FRAMES)]
    began = time.monotonic()
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        words = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.monotonic() - began
    if process.returncode:
        raise ServerFault(f"segment ended with {process.returncode}: {words.decode()[-500:]}")
    num_frames = len(json.loads((out / RESULT).read_text())["frames"])
    return {
        "frames": num_frames,
        "frames_per_s": num_frames / took_s,
        "cpu_ms": 1e3 * (used.ru_utime + used.ru_stime) / num_frames,
        "peak_mb": used.ru_maxrss * 1024 / 1e6,
    }


def generator_best(url: str, num_frames: int, seconds: float, out: Path) -> float:
    """Return the generator's best frames a second over numbers of users. Raises: ConfigError."""
    rates = []
    for users in USERS:
        outcomes = drive(url, Load(seconds, users), out, name="generator")
        rates.append(summarise(outcomes, num_frames, seconds, seconds / 5).frames_per_s)
    return max(rates)


def run(build: Path, video: Path, out: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure in turns, and return the record. Raises: AuralServeError."""
    manifest = read_manifest(build)
    rows: list[dict[str, Any]] = []
    with serve_build(build, environ={}, log=out / "server.log") as launcher:
        url = launcher.config.grpc_url
        for number in range(rounds):
            best = generator_best(url, manifest.num_frames, seconds, out)
            for way, options in WAYS.items():
                found = segment_once(url, video, out / "segmented", options)
                row = {"round": number, "way": way, "generator": best, "ratio": found["frames_per_s"] / best, **found}
                rows.append(row | {"load_average": os.getloadavg()[0]})
                print(json.dumps(rows[-1]), flush=True)
        steps = steps_ms(video, url)
    medians = {
        way: {
            name: statistics.median(row[name] for row in rows if row["way"] == way)
            for name in ("frames_per_s", "generator", "ratio", "cpu_ms", "peak_mb")
        }
        for way in WAYS
    }
    return {
        "build": manifest.name,
        "video": video.name,
        "machine": machine_sentence(machine()),
        "rows": rows,
        "medians": medians,
        "steps_ms": steps,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.segmenting", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench-segment"), help="folder for the report; default: %(default)s"
    )
    parser.add_argument("--seconds", type=int, default=600, help="of the video; default: %(default)s")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(640, 360),
        metavar=("WIDTH", "HEIGHT"),
        help="px of the video; default: %(default)s",
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each way; default: %(default)s")
    parser.add_argument(
        "--generator-seconds", type=float, default=10.0, help="for each number of users; default: %(default)s"
    )
    parser.add_argument("--note", default="", help="what the report should say of this run; default: nothing")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    width, height = given.size
    try:
        video = long_video(Path("build") / f"long-{width}x{height}-{given.seconds}s.mp4", given.seconds, width, height)
        record = run(given.build, video, given.out, given.rounds, given.generator_seconds) | {"note": given.note}
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_new(given.out / "segment.json", json.dumps(record, indent=1) + "\n")
    print(f"\n{markdown(record)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

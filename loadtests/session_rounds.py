"""What a later round of a session costs, over its first: the promise is that clicks do not pay for the clip again.

Three kinds of later rounds: "click" is answered for its frame alone, "propagate" tracks such clicks to all frames, and
"later" does both in one request.

One session after the other on one server, in one run: a first request (clip and sound encoded, answered by sound), then
clicks on changing frames. Beside it, the memory of the sessions' process: before, with
sessions open, and after they ended.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import SESSION
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from service.builds.golden import Golden
from service.builds.manifest import read_manifest
from service.server.launcher import Launcher
from service.server.serving import serve_build

TARGET_SHARE = 0.15
OPEN_SESSIONS = 6


def measure(build: Path, sessions: int, clicks: int) -> tuple[dict[str, list[float]], list[int]]:
    """Measure seconds by kind of request, and bytes of the sessions' process: empty, with OPEN_SESSIONS, empty again.

    Raises: AuralServeError when the server does not start or answer.
    """
    times: dict[str, list[float]] = {"first": [], "later": [], "click": [], "propagate": [], "clip by sound": []}
    with serve_build(build) as launcher:
        golden: Golden | None = launcher.golden
        assert golden is not None
        frames, audio = golden.frames, golden.audio
        size = frames.shape[1]
        rng = np.random.default_rng(0)
        with Client(launcher.config.grpc_url, timeout_s=300) as client:

            def one(timed: bool) -> None:
                with client.session(frames, audio) as session:
                    found = {"first": [_seconds(session.segment)], "later": [], "click": [], "propagate": []}
                    for _ in range(clicks):
                        x, y = rng.uniform(0.2 * size, 0.8 * size, 2)
                        frame = int(rng.integers(len(frames)))
                        found["later"].append(_seconds(partial(session.click, x, y, frame=frame)))
                        found["click"].append(_seconds(partial(session.click, y, x, frame=frame, propagate=False)))
                        found["propagate"].append(_seconds(session.propagate))
                found["clip by sound"] = [_seconds(lambda: client.segment(frames, audio))]
                if timed:
                    for name, values in found.items():
                        times[name] += values

            one(timed=False)
            for _ in range(sessions):
                one(timed=True)
            process = _sessions_process(launcher)
            memory = [process.memory_info().rss]
            with ExitStack() as stack:
                for _ in range(OPEN_SESSIONS):
                    session = stack.enter_context(client.session(frames, audio))
                    session.segment()
                    session.click(size / 2, size / 2)
                memory.append(process.memory_info().rss)
            memory.append(process.memory_info().rss)
    return times, memory


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _sessions_process(launcher: Launcher) -> psutil.Process:
    processes = [psutil.Process(pid) for pid in launcher.stage_pids]
    return next(each for each in processes if f"/{SESSION}/" in " ".join(each.cmdline()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.session_rounds", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=7, help="sessions at a time; default: %(default)s")
    parser.add_argument("--clicks", type=int, default=4, help="later rounds of each session; default: %(default)s")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here; default: nowhere")
    arguments = parser.parse_args()
    try:
        manifest = read_manifest(arguments.build)
        times, memory = measure(arguments.build, arguments.sessions, arguments.clicks)
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    first = statistics.median(times["first"])
    shares = {name: statistics.median(times[name]) / first for name in ("click", "propagate", "later")}
    print(f"{'':20}{'p20':>10}{'median':>10}{'p80':>10}   ms a request, clips of {manifest.num_frames} frames")
    for name, values in times.items():
        print(f"{name:20}" + "".join(f"{1e3 * float(np.quantile(values, q)):10.1f}" for q in (0.2, 0.5, 0.8)))
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    print(f"of the first round's cost: {told} (target for a later round: at most {TARGET_SHARE:.0%})")
    empty, full, after = (value / 1e6 for value in memory)
    print(f"memory of the sessions: {empty:.0f} MB, {full:.0f} MB with {OPEN_SESSIONS} open, {after:.0f} MB after")
    print(
        f"{manifest.name}, {manifest.engine} {manifest.precision}, {arguments.sessions} sessions of"
        f" {arguments.clicks} clicks in one run, warm"
    )
    if arguments.json is not None:
        record = {
            "build": manifest.name,
            "precision": manifest.precision,
            "shares": shares,
            "memory_bytes": memory,
            **times,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_new(arguments.json, json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench-wire`: what a clip costs on its way, by form of the wire, size and number of callers.

    python -m loadtests.wire --build build/compact-256-t5 --out out/bench-wire

The wire alone is measured on builds whose stages answer at once, served by the real server; beside them any build, on a
card too. Of a build for a CPU also the time of a clip through the service over that of its graphs in one process, in
turns within one run.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.cpu.engine_chain import EngineChain
from loadtests.reports.summary import machine, machine_sentence
from loadtests.wire.instant_build import write_instant_build
from loadtests.wire.measuring import Target, drawn_clip, measure
from loadtests.wire.report import markdown
from loadtests.wire.ways import RAW, Way, offered_ways
from service.builds.manifest import read_manifest
from service.server.serving import serve_build

SIZES, CALLERS, NUM_FRAMES = (256, 512, 1024), (1, 2, 4), 5


@dataclass(frozen=True)
class Bench:
    """What is measured: each way, by so many callers, for so long."""

    ways: Sequence[Way]
    callers: Sequence[int]
    for_s: float
    left_out: dict[str, str]
    """Why a way is missing: the client has it, but a build did not answer clips that came by it."""

    def of_build(self, build: Path) -> list[dict[str, Any]]:
        """Serve a build, and measure its clips. Raises: AuralServeError where raw frames are not answered."""
        rows = []
        for way in self.ways:
            try:
                rows += self._of_way(build, way)
            except AuralServeError as error:
                if way.name == RAW.name:
                    raise
                self.left_out[way.name] = f"{build.name}: {error}"
        return rows

    def _of_way(self, build: Path, way: Way) -> list[dict[str, Any]]:
        found, rows = read_manifest(build), []
        with serve_build(build, environ={}, **way.of_server) as launcher:
            config = launcher.config
            target = Target(config.grpc_url, config.metrics_url, found.image_size, found.num_frames)
            for number in self.callers:
                row = measure(target, way, number, self.for_s)
                about = {"build": found.name, "way": way.name, "image_size": found.image_size, "callers": number}
                rows.append(about | row)
                print(
                    f"{found.name:20} {way.name:14} {number} callers: p50 {row['p50_ms']:.1f} ms; means"
                    f" {row['client_ms']:.1f} client, {row['wire_ms']:.1f} wire, {row['server_ms']:.1f} server"
                )
        return rows

    def of_instant_builds(self, sizes: Sequence[int]) -> list[dict[str, Any]]:
        """Measure the wire alone. Raises: AuralServeError."""
        with tempfile.TemporaryDirectory() as folder:
            builds = [write_instant_build(Path(folder) / str(size), size, NUM_FRAMES) for size in sizes]
            return [row for build in builds for row in self.of_build(build)]

    def beside_graphs(self, build: Path, rounds: int) -> list[dict[str, Any]]:
        """Measure a clip through the service and the graphs alone, in turns; nothing where a build has no such graphs.

        Raises: AuralServeError.
        """
        found = read_manifest(build)
        if found.target != "cpu":
            return []
        chain, rows = EngineChain(build), []
        frames, audio = drawn_clip(found.image_size, found.num_frames)
        for way in self.ways:
            served, alone = [], []
            with (
                serve_build(build, environ={}, **way.of_server) as launcher,
                Client(launcher.config.grpc_url, timeout_s=300, **way.of_client) as client,
            ):
                for number in range(rounds + 1):
                    began = time.perf_counter()
                    client.segment(frames, audio, **way.of_call)
                    took_s, graphs_s = time.perf_counter() - began, chain.run(frames, audio)[1]
                    if number:  # the first warms both
                        served.append(1e3 * took_s)
                        alone.append(1e3 * graphs_s)
            p50_ms, graphs_ms = statistics.median(served), statistics.median(alone)
            row = {"build": found.name, "way": way.name, "p50_ms": p50_ms, "p95_ms": float(np.quantile(served, 0.95))}
            rows.append(row | {"graphs_p50_ms": graphs_ms, "ratio": p50_ms / graphs_ms})
        return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.wire", description=__doc__)
    parser.add_argument("--build", type=Path, default=None, help="measure this build too; default: none")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench-wire"), help="wire.json and wire.md go here; default: %(default)s"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="px of a side; default: %(default)s")
    parser.add_argument(
        "--callers", type=int, nargs="+", default=CALLERS, help="callers at a time; default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of each way, size and number of callers; default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=30, help="of the build beside its graphs; default: %(default)s")
    given = parser.parse_args(arguments)
    ways, left_out = offered_ways()
    record: dict[str, Any] = {
        "machine": machine_sentence(machine()),
        "load_average": os.getloadavg()[0],
        "num_frames": NUM_FRAMES,
        "for_s": given.seconds,
        "left_out": left_out,
    }
    bench = Bench(ways, given.callers, given.seconds, left_out)
    try:
        record["rows"] = bench.of_instant_builds(given.sizes)
        record["rows"] += bench.of_build(given.build) if given.build else []
        record["beside_graphs"] = bench.beside_graphs(given.build, given.rounds) if given.build else []
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    write_new(given.out / "wire.json", json.dumps(record, indent=1) + "\n")
    write_new(given.out / "wire.md", markdown(record) + "\n")
    print(f"\n{markdown(record)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

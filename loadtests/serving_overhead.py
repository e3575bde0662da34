"""What serving costs: latency of a clip through gRPC, over the sum of the four engine calls in one process.

Both sides run the same graphs with the same engine, settings and threads, in turns within one run: a round is one clip
through the server, then one clip through the engines, so that a slow minute of the machine slows both.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import USUAL_RESULTS
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.cpu.engine_chain import EngineChain
from service.builds.golden import Golden
from service.builds.manifest import read_manifest
from service.server.serving import serve_build

TARGET_RATIO = 1.10


@dataclass(frozen=True)
class Sample:
    """Seconds of one clip, over the rounds."""

    name: str
    times_s: list[float]

    def quantile_ms(self, share: float) -> float:
        return 1e3 * float(np.quantile(self.times_s, share))


def measure(build: Path, rounds: int) -> tuple[Sample, Sample]:
    """Time `rounds` clips each way. Raises AuralServeError when the server does not start or answer."""
    chain = EngineChain(build)
    served, bare = Sample("through gRPC", []), Sample("four engine calls", [])
    with serve_build(build) as launcher:
        golden: Golden | None = launcher.golden
        assert golden is not None
        with Client(launcher.config.grpc_url) as client:
            through_server = _time(lambda: client.infer(golden.frames, golden.audio, outputs=USUAL_RESULTS))
            for warm in (through_server, lambda: chain.run(golden.frames, golden.audio)):
                warm()
            for _ in range(rounds):
                served.times_s.append(through_server())
                bare.times_s.append(chain.run(golden.frames, golden.audio)[1])
    return served, bare


def _time(call: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return timed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.serving_overhead", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40, help="calls of each way; default: %(default)s")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here; default: nowhere")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.build)
    try:
        served, bare = measure(arguments.build, arguments.rounds)
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ratio = statistics.median(served.times_s) / statistics.median(bare.times_s)
    print(f"{'':20}{'p20':>10}{'median':>10}{'p80':>10}   ms a clip of {manifest.num_frames} frames")
    for sample in (served, bare):
        print(f"{sample.name:20}" + "".join(f"{sample.quantile_ms(q):10.1f}" for q in (0.2, 0.5, 0.8)))
    print(f"ratio of the medians {ratio:.3f} (target: at most {TARGET_RATIO:.2f})")
    print(f"{manifest.name}, {manifest.engine} {manifest.precision}, {arguments.rounds} rounds in turns, warm")
    if arguments.json is not None:
        record = {"build": manifest.name, "ratio": ratio, **{s.name: s.times_s for s in (served, bare)}}
        write_new(arguments.json, json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

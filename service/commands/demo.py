"""The demo: start the server, segment a clip, show where the time went, stop the server."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmenting import segment_media
from auralsam2_client.contract import NETWORK, STAGE_NAMES
from auralsam2_client.media.reader import read_media
from service.builds.manifest import read_manifest
from service.monitoring.metrics import StageTime, fetch, stage_times
from service.results.outputs import write_outputs
from service.server.serving import serve_build

LOG = "server.log"
# The golden request has warmed the chain; the median of these is what the table shows.
NUM_RUNS = 7


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured and wrote."""

    weights: str
    precision: str
    stages: dict[str, StageTime]
    """Mean over the runs, from the server's own counters."""
    clip_ms: float
    """Median from call to answer at the client."""
    num_frames: int
    start_s: float
    files: list[Path]
    masks: NDArray[np.bool_]
    """[T, H, W]."""

    @property
    def frames_per_second(self) -> float:
        """Frames of a clip over its median time."""
        return 1e3 * self.num_frames / self.clip_ms


def run_demo(build: Path, clip: Path, out: Path, say: Callable[[str], None]) -> DemoResult:
    """Run the demo on a build and a clip; write overlay, masks, JSON and the server's log into `out`.

    Raises: AuralServeError of whatever went wrong; the server is stopped in any case.
    """
    out.mkdir(parents=True, exist_ok=True)
    media = read_media(clip)
    manifest = read_manifest(build)
    started = time.monotonic()
    # A link by this name would have the log written elsewhere.
    (out / LOG).unlink(missing_ok=True)
    with serve_build(build, log=out / LOG) as launcher:
        start_s = time.monotonic() - started
        config = launcher.config
        say(f"server ready after {start_s:.1f} s on {config.grpc_url}; its log is {out / LOG}")
        with Client(config.grpc_url) as client:
            segmented = segment_media(client, media)
            times: list[float] = []
            before = fetch(config.metrics_url)
            for _ in range(NUM_RUNS):
                begun = time.monotonic()
                segment_media(client, media)
                times.append(1e3 * (time.monotonic() - begun))
            stages = stage_times(before, fetch(config.metrics_url))
    precision = {"engine": manifest.engine, "arithmetic": manifest.precision}
    files = write_outputs(out, media, segmented, model=manifest.name, precision=precision)
    chain = {name: stages[name] for name in (*STAGE_NAMES, NETWORK) if name in stages}
    return DemoResult(
        manifest.weights,
        manifest.precision,
        chain,
        statistics.median(times),
        len(media.frames),
        start_s,
        files,
        segmented.masks(),
    )

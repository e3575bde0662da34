"""Clips sent one way by several callers at once: milliseconds in client, wire and server, and bytes of a clip.

client: from `segment` to the library's call, and from its return to the masks' logits: checks, encoding, copies.
wire: the library's call less what the server says of the request: serialising, transport, reading the answer.
server: the ensemble's own time by its metrics, decoding and hand-over between stages within.
beside: wire and server less what the stages themselves took, which is where files are decoded.
"""

import re
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import ENSEMBLE, WINDOW_SAMPLES
from loadtests.wire.ways import Way
from service.monitoring.metrics import ModelCounters, fetch, stage_times

MIN_CLIPS = 5
_STAGE_SECONDS = re.compile(r"^auralsam2_stage_duration_seconds_sum\{[^}]*\} (\S+)$", re.MULTILINE)
WARM_CLIPS = 3


@dataclass
class Timings:
    """Of one caller: seconds of each clip, and bytes of the last."""

    total_s: list[float] = field(default_factory=list)
    call_s: list[float] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0


class TimedChannel:
    """The library's client, whose `infer` is timed and weighed."""

    def __init__(self, channel: Any, timings: Timings) -> None:
        self._channel, self._timings = channel, timings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def infer(self, model: str, **request: Any) -> Any:
        """Send, and note how long it took and how many bytes of tensors went each way."""
        began = time.perf_counter()
        result = self._channel.infer(model, **request)
        self._timings.call_s.append(time.perf_counter() - began)
        self._timings.bytes_in = sum(len(each._get_content() or b"") for each in request["inputs"])
        self._timings.bytes_out = sum(map(len, result.get_response().raw_output_contents))
        return result


def stage_seconds(metrics_url: str) -> float:
    """Add up what all stages computed since the server's start, by their own clocks."""
    with urllib.request.urlopen(metrics_url, timeout=5) as page:
        return sum(map(float, _STAGE_SECONDS.findall(page.read().decode())))


def drawn_clip(image_size: int, num_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw frames as smooth as a photograph, with the noise of a sensor, and a quiet tone. Always the same."""
    random = np.random.default_rng(20)
    place = np.linspace(0, 2 * np.pi, image_size, dtype=np.float32)
    waves = np.sin(3 * place)[:, None, None] * np.cos(2 * place)[None, :, None] * np.array([60, 45, 30], np.float32)
    frames = np.stack([128 + np.roll(waves, 8 * index, axis=1) for index in range(num_frames)])
    frames += random.normal(0, 3, frames.shape).astype(np.float32)
    tone = 0.2 * np.sin(np.arange(WINDOW_SAMPLES, dtype=np.float32) / 8)
    audio = np.broadcast_to(tone[None, :, None], (num_frames, WINDOW_SAMPLES, 2))
    return np.clip(frames, 0, 255).astype(np.uint8), np.ascontiguousarray(audio, np.float32)


@dataclass(frozen=True)
class Target:
    """A server, and the clips that it takes."""

    url: str
    metrics_url: str
    image_size: int
    num_frames: int


def measure(target: Target, way: Way, callers: int, for_s: float) -> dict[str, Any]:
    """Send clips one way for `for_s` seconds, each caller at least five, and return a row of figures.

    Raises: AuralServeError when a clip is not answered.
    """
    frames, audio = drawn_clip(target.image_size, target.num_frames)
    timings = [Timings() for _ in range(callers)]
    # The caller that arrives last reads the counters, when all are warm and none has begun.
    before: dict[str, ModelCounters] = {}
    computed_s: list[float] = []

    def begin() -> None:
        before.update(fetch(target.metrics_url))
        computed_s.append(stage_seconds(target.metrics_url))

    warm = threading.Barrier(callers, action=begin)

    def call(own: Timings) -> float:
        try:
            with Client(target.url, timeout_s=60, **way.of_client) as client:
                for _ in range(WARM_CLIPS):
                    client.segment(frames, audio, **way.of_call)
                client._wire = TimedChannel(client._wire, own)
                warm.wait()
                began = time.perf_counter()
                while (now := time.perf_counter()) < began + for_s or len(own.total_s) < MIN_CLIPS:
                    client.segment(frames, audio, **way.of_call)
                    own.total_s.append(time.perf_counter() - now)
                return time.perf_counter() - began
        except BaseException:
            warm.abort()
            raise

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call, own) for own in timings]
    errors = [error for each in calls if (error := each.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    served = stage_times(before, fetch(target.metrics_url))[ENSEMBLE]
    stages_ms = 1e3 * (stage_seconds(target.metrics_url) - computed_s[0]) / served.num_requests
    return figures(timings, served.total_ms, stages_ms, max(each.result() for each in calls))


def figures(timings: list[Timings], server_ms: float, stages_ms: float, took_s: float) -> dict[str, Any]:
    """Put what callers noted as a row: means of the parts, which add up, and p50 and p95 of the whole."""
    total_ms, call_ms = (
        1e3 * np.concatenate(parts) for parts in ([each.total_s for each in timings], [each.call_s for each in timings])
    )
    return {
        "bytes_in": timings[0].bytes_in,
        "bytes_out": timings[0].bytes_out,
        "clips": len(total_ms),
        "clips_per_s": len(total_ms) / took_s,
        "client_ms": float(np.mean(total_ms - call_ms)),
        "wire_ms": float(np.mean(call_ms)) - server_ms,
        "server_ms": server_ms,
        "beside_ms": float(np.mean(call_ms)) - stages_ms,
        "p50_ms": float(np.quantile(total_ms, 0.5)),
        "p95_ms": float(np.quantile(total_ms, 0.95)),
    }

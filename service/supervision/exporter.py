"""What the server's own metrics page cannot say, for Prometheus: who serves, its memory, its restarts.

The supervisor runs it beside the server, so that it answers while the server is down, too.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from auralsam2_client.contract import FRAMES_METRIC
from auralsam2_client.errors import ConfigError, ServerFault, ServerUnavailable
from auralsam2_client.version import __version__
from service.builds.golden import Golden
from service.builds.manifest import read_manifest
from service.door.front_door import FrontDoor
from service.door.metrics import door_metrics
from service.monitoring.metrics import read_page, total
from service.server.config import PREFIX, ServerConfig
from service.server.guardian import shared_memory_of
from service.server.stage_process import stage_name
from service.supervision.canary import RESULTS
from service.supervision.page import PageServer

FPS_WINDOW_S = 10.0
# For the server's part of a page.
SCRAPE_S = 3.0
SERVER_UP = (
    b"# HELP auralsam2_server_up Whether the server's own metrics were read; they follow\n"
    b"# TYPE auralsam2_server_up gauge\nauralsam2_server_up %d\n"
)
_HASH_IN_SENTENCE = re.compile(r"\b[0-9a-f]{8,64}\b")


@dataclass(frozen=True)
class ProcessUse:
    """What one process of the service holds."""

    name: str  # server, a stage, or supervisor
    resident_bytes: int
    open_files: int


class Watched(Protocol):
    """What the exporter asks of a supervisor."""

    config: ServerConfig

    @property
    def counts(self) -> Mapping[str, int]: ...

    @property
    def ready(self) -> bool: ...

    @property
    def degraded(self) -> str: ...

    @property
    def num_damaged_models(self) -> int: ...

    @property
    def door(self) -> FrontDoor | None: ...

    @property
    def golden_answers(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def server_pid(self) -> int | None: ...

    @property
    def mark(self) -> str | None: ...


class Exporter:
    """Serves all metrics over HTTP, the supervisor's and the server's own; a context manager.

    The server's page is read for each scrape, and left out while there is none: its HTTP takes whatever is sent, so
    that it listens on this machine alone. Without `exporter_port` nothing is served.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._server: PageServer | None = None

    def __enter__(self) -> "Exporter":
        config = self._watched.config
        if config.exporter_port is not None:
            registry = CollectorRegistry()
            registry.register(SupervisorCollector(self._watched))

            def page() -> bytes:
                text = generate_latest(registry)
                try:
                    return text + SERVER_UP % 1 + read_page(config.metrics_url, timeout_s=SCRAPE_S).encode()
                except (ServerUnavailable, ValueError):
                    return text + SERVER_UP % 0

            try:
                self._server = PageServer((config.metrics_address, config.exporter_port), page)
            except OSError as error:
                raise ConfigError(
                    f"Port {config.exporter_port} (exporter_port) cannot be used: {error.strerror}. End what holds it,"
                    f" or take another with --exporter-port or {PREFIX}EXPORTER_PORT."
                ) from error
            self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()


class SupervisorCollector(Collector):
    """Reads every figure afresh at each scrape; what cannot be read is left out."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._build = build_labels(watched.config.build)
        self._paths = [request.path for request in Golden.load(watched.config.build).requests]
        self._frames: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics, as prometheus_client asks for them."""
        watched = self._watched
        build = GaugeMetricFamily(
            "auralsam2_build_info", "What is served; the value is always 1", labels=list(self._build)
        )
        build.add_metric(list(self._build.values()), 1)
        yield build
        yield GaugeMetricFamily(
            "auralsam2_ready", "Whether processes and last golden clip were well", value=int(watched.ready)
        )
        yield GaugeMetricFamily(
            "auralsam2_degraded",
            "Whether faults came too often or nobody can connect; the log says why",
            value=int(bool(watched.degraded)),
        )
        restarts = CounterMetricFamily("auralsam2_restarts", "Faults that led to a restart, by kind", labels=["reason"])
        for reason in sorted({"process", "canary", "answer", "start", *watched.counts}):
            restarts.add_metric([reason], watched.counts.get(reason, 0))
        yield restarts
        yield CounterMetricFamily(
            "auralsam2_damaged_models",
            "Compiled models that did not fit their hash, deleted and compiled again",
            value=watched.num_damaged_models,
        )
        yield from door_metrics(watched.door)
        yield self._golden_answers()
        memory = GaugeMetricFamily("auralsam2_memory_bytes", "Resident memory by process", labels=["process"])
        files = GaugeMetricFamily("auralsam2_open_files", "Open file descriptors by process", labels=["process"])
        for use in processes(watched.server_pid):
            memory.add_metric([use.name], use.resident_bytes)
            files.add_metric([use.name], use.open_files)
        yield from (memory, files)
        if watched.mark is not None:
            held = shared_memory_bytes(watched.mark)
            yield GaugeMetricFamily("auralsam2_shared_memory_bytes", "Shared memory of the stages", value=held)
        rate = self._frames_per_second()
        if rate is not None:
            yield GaugeMetricFamily(
                "auralsam2_frames_per_second", f"Answered frames a second over {FPS_WINDOW_S:.0f} s", value=rate
            )

    def _golden_answers(self) -> Metric:
        """Every path with every result from the beginning, so that the first wrong answer is an increase."""
        answers = CounterMetricFamily(
            "auralsam2_golden_answers",
            "Golden requests by path and result: right, wrong, or none where the server had to answer",
            labels=["path", "result"],
        )
        found = self._watched.golden_answers
        for path in sorted({*self._paths, *(path for path, _ in list(found))}):
            for result in RESULTS:
                answers.add_metric([path, result], found.get((path, result), 0))
        return answers

    def _frames_per_second(self) -> float | None:
        """The mean over the window, or over the time since the first scrape; None at the first and while down."""
        try:
            found = total(read_page(self._watched.config.metrics_url, timeout_s=1), FRAMES_METRIC)
        except (ServerUnavailable, ServerFault):
            return None
        with self._lock:
            now = time.monotonic()
            if self._frames and found < self._frames[-1][1]:
                self._frames.clear()  # the server was restarted
            self._frames.append((now, found))
            while len(self._frames) > 2 and self._frames[1][0] <= now - FPS_WINDOW_S:
                self._frames.popleft()
            since, before = self._frames[0]
        return (found - before) / (now - since) if now > since else None


def build_labels(build: Path) -> dict[str, str]:
    """Describe a build by labels. Raises: ConfigError when it has no manifest."""
    manifest = read_manifest(build)
    text = (build / "manifest.json").read_bytes()
    checkpoint = json.loads(text).get("checkpoint_sha256")
    if not checkpoint:
        named = _HASH_IN_SENTENCE.search(manifest.weights)
        checkpoint = named[0] if named else ""
    return {
        "version": __version__,
        "build": manifest.name,
        "weights": manifest.weights,
        "trained_on": manifest.trained_on,
        "preset": manifest.preset,
        "image_size": str(manifest.image_size),
        "num_frames": str(manifest.num_frames),
        "target": manifest.target,
        "engine": manifest.engine,
        "precision": manifest.precision,
        "checkpoint": checkpoint[:12],
        "artefact": hashlib.sha256(text).hexdigest()[:12],
    }


def processes(server_pid: int | None) -> list[ProcessUse]:
    """List the server and its stages, with what they hold now; those that are gone are left out."""
    if server_pid is None:
        return []
    found: list[ProcessUse] = []
    with contextlib.suppress(psutil.Error):
        server = psutil.Process(server_pid)
        for process in (server, *server.children()):
            with contextlib.suppress(psutil.Error):
                found.append(ProcessUse(_role(process, server_pid), process.memory_info().rss, process.num_fds()))
    return found


def _role(process: psutil.Process, server_pid: int) -> str:
    if process.pid == server_pid:
        return "server"
    return stage_name(process) or "other"


def shared_memory_bytes(mark: str) -> int:
    """Add up the bytes in use of the regions of one launch."""
    held = 0
    for path in shared_memory_of(mark):
        with contextlib.suppress(OSError):
            held += 512 * path.stat().st_blocks
    return held

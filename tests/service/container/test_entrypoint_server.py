"""The entry point with the embedded server: models read-only, a gentle stop, metrics, health."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import ServerUnavailable
from export.gates.sample_clip import sample_audio, sample_frames
from service.door.nginx import find_nginx
from service.monitoring.metrics import fetch, in_flight
from service.server.serving import free_ports
from tests.service.container.surroundings import (
    ENTRYPOINT,
    ROOT,
    Surroundings,
    mounted,
    read_only,
)
from tests.service.toy.running import eventually


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    grpc_port: int
    metrics_port: int
    exporter_port: int
    log: Path
    cache: Path


@pytest.fixture
def served(around: Surroundings, compact_build: Path) -> Iterator[Served]:
    """The server as compose.yaml starts it: models read-only, a cache, temporary files where nothing is executed."""
    (around.folder / "bin" / "auralsam2").unlink()
    (around.folder / "tmp").mkdir()
    before = mounted(read_only(compact_build), f"mount -t tmpfs -o noexec,nosuid,nodev tmpfs '{around.folder / 'tmp'}'")
    grpc_port, metrics_port, exporter_port = free_ports(3)
    log = around.folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*before, str(ENTRYPOINT), "serve"],
            env=around.environment(
                AURALSAM2_BUILD=str(compact_build),
                AURALSAM2_GRPC_PORT=str(grpc_port),
                AURALSAM2_METRICS_PORT=str(metrics_port),
                AURALSAM2_EXPORTER_PORT=str(exporter_port),
                AURALSAM2_METRICS_HOST="0.0.0.0",
                AURALSAM2_DOOR="auto" if find_nginx() else "off",
                AURALSAM2_CACHE_DIR=str(around.folder / "cache"),
                TMPDIR=str(around.folder / "tmp"),
            ),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Served(process, grpc_port, metrics_port, exporter_port, log, around.folder / "cache")
    finally:
        # A shell that did not give way to the supervisor has it as a child; the launcher's guardian does the rest.
        children = [] if process.poll() is not None else psutil.Process(process.pid).children()
        left = [child for child in children if "auralsam2 serve" in " ".join(child.cmdline())]
        process.kill()
        process.wait()
        for child in left:
            child.kill()


def health(served: Served) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service.container.healthcheck"],
        env={**os.environ, "AURALSAM2_GRPC_PORT": str(served.grpc_port)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def test_serves_read_only_and_sigterm_lets_clips_finish(served: Served) -> None:
    assert health(served)[0] == 1
    eventually(lambda: "supervisor: ready" in served.log.read_text() or served.process.poll() is not None, within_s=120)
    assert served.process.poll() is None, served.log.read_text()
    # The shell is gone: the process that gets SIGTERM is the supervisor.
    assert "auralsam2 serve --build" in " ".join(psutil.Process(served.process.pid).cmdline())
    assert health(served) == (0, f"127.0.0.1:{served.grpc_port} is ready\n")
    # What OpenVINO compiled is kept for the next start, though the build cannot be written.
    assert list(served.cache.glob("*.blob"))
    assert "cannot be written" not in served.log.read_text()
    metrics_url = f"http://127.0.0.1:{served.metrics_port}/metrics"
    frames, audio = sample_frames(5, 256), sample_audio(5)
    with Client(f"127.0.0.1:{served.grpc_port}", timeout_s=60) as client, ThreadPoolExecutor(6) as pool:
        before = fetch(metrics_url)["auralsam2"].success
        calls = [pool.submit(client.infer, frames, audio) for _ in range(6)]
        eventually(lambda: in_flight(fetch(metrics_url)) >= 2)
        served.process.send_signal(signal.SIGTERM)
        # Not all were done, so the signal came while clips were under way.
        assert fetch(metrics_url)["auralsam2"].success - before < len(calls)
        answers = [call.result(60) for call in calls]
    assert len({answer["MASK_LOGITS"].tobytes() for answer in answers}) == 1
    assert served.process.wait(30) == 0, served.log.read_text()
    assert "stopping; calls under way are finished first" in served.log.read_text()
    assert health(served)[0] == 1


def test_metrics_can_be_read_from_the_network_of_the_containers(served: Served) -> None:
    eventually(lambda: "supervisor: ready" in served.log.read_text(), within_s=120)
    # 127.0.0.2 stands for another interface: a socket bound to 127.0.0.1 does not answer there.
    assert "auralsam2" in fetch(f"http://127.0.0.2:{served.exporter_port}/metrics")
    with pytest.raises(ServerUnavailable):
        fetch(f"http://127.0.0.2:{served.metrics_port}/metrics")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0

"""The supervisor as a process of its own: signals that it gets, a setting that it cannot read; nothing is left."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import ConfigError, ServerTimeout, ServerUnavailable
from service.commands.terminal import EXIT_CODES
from service.monitoring.metrics import fetch, in_flight
from service.server.guardian import shared_memory_of
from service.server.serving import free_ports
from tests.service.toy import build_folder as toy
from tests.service.toy.running import alive, eventually


class Process:
    """`auralsam2 serve` as a person starts it."""

    def __init__(self, build: Path, **environ: str) -> None:
        self.ports = free_ports(2)
        self.client_url = f"127.0.0.1:{self.ports[0]}"
        self.log = build.parent / "log"
        with self.log.open("w") as log:
            ports = ["--grpc-port", str(self.ports[0]), "--metrics-port", str(self.ports[1])]
            self.popen = subprocess.Popen(
                [Path(sys.executable).with_name("auralsam2"), "serve", "--build", build, *ports],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "AURALSAM2_POLL_INTERVAL_S": "0.1", **environ},
            )

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.popen.pid).children(recursive=True)
        return found

    def shared_memory(self) -> list[Path]:
        return shared_memory_of(f"auralsam2_{self.popen.pid}_")

    def ready(self) -> "Process":
        eventually(lambda: "supervisor: ready" in self.log.read_text())
        return self

    def assert_nothing_left(self, children: list[psutil.Process]) -> None:
        eventually(lambda: not any(alive(child.pid) for child in children), within_s=5)
        assert self.shared_memory() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = Process(toy.write(tmp_path / "build")).ready()
    children = process.children()
    assert len(children) == 6  # server, four stages, guardian
    assert process.shared_memory()
    frames, audio = toy.clip()
    with Client(process.client_url, timeout_s=20) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, toy.asking(frames, "sleep", 2), audio)
        eventually(lambda: in_flight(fetch(f"http://127.0.0.1:{process.ports[1]}/metrics")) == 1)
        process.popen.send_signal(number)
        assert call.result(10)["MASK_LOGITS"].shape == (2, 8, 8)
    assert process.popen.wait(20) == 0
    process.assert_nothing_left(children)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    process = Process(build).ready()
    children = process.children()
    (build / "cache" / "hang").touch()
    with Client(process.client_url, timeout_s=20) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, *toy.clip())
        eventually(lambda: in_flight(fetch(f"http://127.0.0.1:{process.ports[1]}/metrics")) >= 1)
        process.popen.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in process.log.read_text())
        process.popen.send_signal(signal.SIGTERM)
        # The status of an end at a second signal; the call hangs, so a gentle stop would run into its deadline.
        assert process.popen.wait(60) == 130
        with pytest.raises((ServerUnavailable, ServerTimeout)):
            call.result(20)
    process.assert_nothing_left(children)


def test_a_signal_during_the_start_is_heard(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    (build / "cache" / "hang").touch()
    process = Process(build)
    eventually(lambda: len(process.children()) == 6)
    children = process.children()
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(10) == 0
    process.assert_nothing_left(children)


def test_a_setting_that_cannot_be_read_is_said_without_a_traceback(tmp_path: Path) -> None:
    process = Process(toy.write(tmp_path / "build"), AURALSAM2_DRAIN_TIMEOUT_S="soon")
    assert process.popen.wait(20) == EXIT_CODES[ConfigError]
    assert "error: AURALSAM2_DRAIN_TIMEOUT_S = 'soon'" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()

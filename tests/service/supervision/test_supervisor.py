"""Faults of every kind under the supervisor: the caller gets an error soon, the service comes back, nothing is left."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import ConfigError, ServerFault, ServerUnavailable
from auralsam2_client.local_regions import FOLDER, Region
from service.cards.in_use import CardsInUse
from service.monitoring.metrics import fetch, in_flight
from service.server.guardian import processes_of, shared_memory_of
from service.server.launcher import Launcher
from service.supervision.supervisor import Supervisor
from tests.service.toy import build_folder as toy
from tests.service.toy.running import alive, eventually, kill_process, stage_processes, stop_process, toy_config


class Supervised:
    """A supervisor in a thread, with its log."""

    def __init__(self, build: Path, cards: CardsInUse | None = None, **changed: Any) -> None:
        self.build = build
        self.lines: list[str] = []
        self.code: int | None = None
        self.supervisor = Supervisor(toy_config(build, **changed), sink=self.lines.append, cards=cards)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        eventually(lambda: self.supervisor.ready or not self.thread.is_alive())
        assert self.supervisor.ready, self.lines[-5:]

    def _run(self) -> None:
        self.code = self.supervisor.run()

    @property
    def launcher(self) -> Launcher:
        assert self.supervisor.launcher is not None
        return self.supervisor.launcher

    @property
    def num_restarts(self) -> int:
        return len(self.supervisor.restarts)

    def stage(self, name: str) -> int:
        return stage_processes(self.launcher, name)[0]

    def stop(self) -> int | None:
        self.supervisor.request_stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.code


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    supervised = Supervised(
        toy.write(tmp_path_factory.mktemp("supervisor") / "build"), restart_limit=100, local_memory=True
    )
    yield supervised
    mark = supervised.launcher.mark
    assert supervised.stop() == 0
    assert processes_of(mark) == []
    assert shared_memory_of(mark) == []


@pytest.fixture
def client(supervised: Supervised) -> Iterator[Client]:
    eventually(lambda: supervised.supervisor.ready)
    with Client(supervised.supervisor.config.grpc_url, timeout_s=10) as client:
        yield client


def assert_restored(supervised: Supervised, before: int, old: Launcher, kind: str) -> None:
    """One restart, of this kind, within 30 s; the next good clip is answered, and the old run left nothing."""
    eventually(lambda: supervised.num_restarts > before and supervised.supervisor.ready, within_s=30)
    restart = supervised.supervisor.restarts[-1]
    assert restart.kind == kind
    assert restart.duration_s < 30
    assert supervised.launcher is not old
    frames, audio = toy.clip(5)
    with Client(supervised.supervisor.config.grpc_url, timeout_s=10) as client:
        answer = client.infer(frames, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"])
    assert processes_of(old.mark) == []
    assert shared_memory_of(old.mark) == []
    assert any(line.startswith("supervisor: restart") for line in supervised.lines)


def test_canaries_go_on_while_all_is_well(supervised: Supervised, client: Client) -> None:
    before = fetch(supervised.supervisor.config.metrics_url)["auralsam2"].success
    eventually(lambda: fetch(supervised.supervisor.config.metrics_url)["auralsam2"].success >= before + 2, within_s=10)
    assert supervised.num_restarts == 0


def test_shared_memory_of_a_client_that_died_goes_with_a_canary(supervised: Supervised, client: Client) -> None:
    region = Region(4096)
    client._wire.register_system_shared_memory(region.name, region.key, region.num_bytes)
    # As the kernel does when a process dies.
    region.memory.close()
    os.close(region._file)
    eventually(lambda: not client._wire.get_system_shared_memory_status().regions, within_s=10)
    assert not (FOLDER / region.name).exists()


@pytest.mark.parametrize("name", ["hiera", "sam2_decoder"])
def test_a_stage_killed_under_a_call(supervised: Supervised, client: Client, name: str) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    frames, audio = toy.clip()
    client.clip_shape()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, toy.asking(frames, "sleep", 30), audio)
        eventually(lambda: in_flight(fetch(supervised.supervisor.config.metrics_url)) == 1)
        kill_process(supervised.stage(name))
        with pytest.raises((ServerFault, ServerUnavailable)):
            call.result(25)  # before the stage, left alone, would answer
    assert_restored(supervised, before, old, "process")


def test_the_server_killed(supervised: Supervised, client: Client) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    assert old.pid is not None
    kill_process(old.pid)
    with pytest.raises(ServerUnavailable):
        client.infer(*toy.clip())
    assert_restored(supervised, before, old, "process")


def test_a_stage_stopped(supervised: Supervised, client: Client) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    stop_process(supervised.stage("aural_fuser"))
    assert_restored(supervised, before, old, "process")


def test_a_stage_stopped_for_a_moment_is_left_alone(supervised: Supervised, client: Client) -> None:
    before, launcher = supervised.num_restarts, supervised.launcher
    stage = supervised.stage("aural_fuser")
    stop_process(stage)
    # Two looks of the supervisor's lie between; a look is a call of `fault`, and these are two more.
    assert launcher.fault() is None
    time.sleep(0.3)
    assert launcher.fault() is None
    os.kill(stage, signal.SIGCONT)
    frames, audio = toy.clip(6)
    assert np.array_equal(client.infer(frames, audio)["IOU"], toy.expected(frames, audio)["IOU"])
    assert (supervised.num_restarts, supervised.launcher) == (before, launcher)


def test_the_server_stopped(supervised: Supervised, client: Client) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    assert old.pid is not None
    stop_process(old.pid)
    assert_restored(supervised, before, old, "process")


def test_an_answer_that_changes(supervised: Supervised, client: Client) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    flip = supervised.build / "cache" / "flip"
    flip.touch()
    eventually(lambda: supervised.supervisor.counts["answer"] == 1)
    flip.unlink()
    assert_restored(supervised, before, old, "answer")


def test_a_stage_that_hangs_with_all_processes_alive(supervised: Supervised, client: Client) -> None:
    before, old = supervised.num_restarts, supervised.launcher
    hang = supervised.build / "cache" / "hang"
    hang.touch()
    eventually(lambda: supervised.supervisor.counts["canary"] == 1)
    hang.unlink()
    assert_restored(supervised, before, old, "canary")
    assert "no clip was answered" in supervised.supervisor.restarts[-1].reason


def test_a_busy_server_is_left_alone(supervised: Supervised, client: Client) -> None:
    # Twelve callers, a clip a second: the canary waits for longer than it may, but clips are answered meanwhile.
    before, deadline = supervised.num_restarts, time.monotonic() + 60
    frames, audio = toy.clip()
    slow = toy.asking(frames, "sleep", 1)

    def busy() -> bool:
        return any("busy" in line for line in supervised.lines)

    def ask(_: int) -> None:
        # Until it was told: a canary that came before the queue was full says nothing.
        while not busy() and time.monotonic() < deadline:
            client.infer(slow, audio, timeout_s=30)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))
    assert busy()
    assert supervised.num_restarts == before
    assert supervised.supervisor.ready


def test_a_guardian_that_died_is_started_again(supervised: Supervised, client: Client) -> None:
    before, launcher = supervised.num_restarts, supervised.launcher
    dead = guardian_of(launcher)
    assert dead is not None
    kill_process(dead)
    eventually(lambda: guardian_of(launcher) not in (None, dead))
    assert supervised.num_restarts == before
    assert supervised.supervisor.ready
    assert any("guardian ended with signal SIGKILL" in line for line in supervised.lines)


def guardian_of(launcher: Launcher) -> int | None:
    """The process that ends a launch should this process be killed."""
    found = [
        child.pid
        for child in psutil.Process().children()
        if alive(child.pid) and launcher.mark in child.cmdline() and "guardian.py" in " ".join(child.cmdline())
    ]
    return found[0] if found else None


def test_a_first_start_that_fails_is_raised(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    (build / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Supervisor(toy_config(build), sink=lambda line: None).run()

"""Serving with an installed server: a stand-in home around the embedded one, so that what is answered is real.

No GPU is here. Builds for GPUs are the toy's Python stages under another target's name, with a stand-in nvidia-smi:
what is proven is what the launcher checks, passes on and watches, not a CUDA backend.
"""

import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from auralsam2_client.calls.client import Client
from service.monitoring.metrics import fetch, in_flight
from service.server.guardian import processes_of, shared_memory_of
from service.server.installed_server import installed_program, installed_version
from service.server.launcher import Launcher
from service.server.serving import free_ports
from service.supervision.supervisor import Supervisor
from tests.service.toy import build_folder as toy
from tests.service.toy.installed import (
    NEWER_FLAG,
    VERSION,
    arguments,
    card,
    on_path,
    program,
    variables,
    write_gpu_build,
    write_smi,
)
from tests.service.toy.running import alive, eventually, kill_process, toy_config

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("one_l4")


@pytest.fixture
def lines() -> list[str]:
    return []


def assert_answers(launcher: Launcher) -> None:
    frames, audio = toy.clip(3)
    with Client(launcher.config.grpc_url, timeout_s=20) as client:
        answer = client.infer(frames, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"])


def test_a_cpu_build_is_served_by_an_installed_server(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, lines: list[str]
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/inherited/lib")
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    build = toy.write(tmp_path / "build")
    with Launcher(toy_config(build, tritonserver=home), sink=lines.append) as launcher:
        assert launcher.pid is not None
        assert_answers(launcher)
        assert len(launcher.stage_pids) == 4
        assert launcher.fault() is None
        given, found = arguments(home), variables(home)
        pids = [launcher.pid, *launcher.stage_pids]
    assert f"--backend-directory={home / 'backends'}" in given
    # The embedded server would have ended on this flag; the stand-in lists it, so it was given.
    assert f"{NEWER_FLAG}=false" in given
    assert f"--backend-config=python,shm-region-prefix-name={launcher.mark}" in given
    # A CPU build asks for no GPU.
    assert not [flag for flag in given if "memory-pool" in flag]
    assert found["LD_LIBRARY_PATH"].split(":")[-2:] == [str(home / "lib"), "/inherited/lib"]
    assert found["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert found["AURALSAM2_CACHE_DIR"] == str(build / "cache")
    assert "AIP_MODE" not in found
    # Python stages take the server environment's packages, and the rest of PATH stays.
    assert found["PATH"] == os.pathsep.join([str(launcher.config.server_env / "bin"), os.environ["PATH"]])
    assert f"supervisor: serving with Triton Inference Server {VERSION} of {home}" in lines
    assert not any(alive(pid) for pid in pids)
    assert processes_of(launcher.mark) == []
    assert shared_memory_of(launcher.mark) == []


def test_a_signal_drains_an_installed_server(home: Path, tmp_path: Path) -> None:
    """As a person starts it: `auralsam2 serve --tritonserver`."""
    build, (grpc_port, metrics_port) = toy.write(tmp_path / "build"), free_ports(2)
    log = tmp_path / "log"
    ports = ["--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.commands.cli", "serve", "--build", build, "--tritonserver", home, *ports],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    eventually(lambda: "supervisor: ready" in log.read_text())
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("--backend-directory=" + str(home / "backends") in child.cmdline() for child in children)
    frames, audio = toy.clip()
    with Client(f"127.0.0.1:{grpc_port}", timeout_s=20) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, toy.asking(frames, "sleep", 2), audio)
        eventually(lambda: in_flight(fetch(f"http://127.0.0.1:{metrics_port}/metrics")) == 1)
        process.send_signal(signal.SIGTERM)
        assert call.result(15)["MASK_LOGITS"].shape == (2, 8, 8)
    assert process.wait(20) == 0, log.read_text()
    eventually(lambda: not any(alive(child.pid) for child in children), within_s=5)
    assert shared_memory_of(f"auralsam2_{process.pid}_") == []


@pytest.mark.parametrize("target", ["onnx-gpu", "tensorrt"])
def test_a_gpu_build_gets_pools_and_no_python_settings(
    home: Path, tmp_path: Path, lines: list[str], target: str
) -> None:
    build = write_gpu_build(tmp_path / "build", target)
    with Launcher(toy_config(build, tritonserver=home), sink=lines.append) as launcher:
        assert_answers(launcher)
        given, found = arguments(home), variables(home)
        # Its stages are threads of the server; there is nothing else to watch.
        assert launcher.stage_pids == []
        assert launcher.fault() is None
    assert f"--cuda-memory-pool-byte-size=0:{64 * MIB}" in given
    assert f"--pinned-memory-pool-byte-size={64 * MIB}" in given
    assert not [flag for flag in given if flag.startswith("--backend-config=")]
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert any(
        line.startswith("supervisor: serving on NVIDIA L4 (compute capability 8.9): pools of 64 MiB on each card")
        for line in lines
    )
    assert processes_of(launcher.mark) == []


def test_a_gpu_server_is_restored_without_stages_to_watch(home: Path, tmp_path: Path, lines: list[str]) -> None:
    build = write_gpu_build(tmp_path / "build", "onnx-gpu")
    supervisor = Supervisor(toy_config(build, tritonserver=home), sink=lines.append)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(supervisor.run)
        try:
            eventually(lambda: supervisor.ready or run.done())
            first = supervisor.launcher
            assert first is not None
            assert first.pid is not None
            kill_process(first.pid)
            eventually(lambda: len(supervisor.restarts) == 1 and supervisor.ready)
            assert supervisor.restarts[0].kind == "process"
            assert processes_of(first.mark) == []
            # A fault inside the server shows in its answers alone: here, in that there are none.
            (build / "cache" / "hang").touch()
            eventually(lambda: supervisor.counts["canary"] == 1)
            (build / "cache" / "hang").unlink()
            eventually(lambda: len(supervisor.restarts) == 2 and supervisor.ready)
            last = supervisor.launcher
            assert last is not None
            assert_answers(last)
        finally:
            supervisor.request_stop()
        assert run.result(30) == 0, lines[-5:]


def test_every_card_gets_a_pool(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path / "two", card(), card(1))))
    build = write_gpu_build(tmp_path / "build", "tensorrt")
    with Launcher(toy_config(build, tritonserver=home), sink=lambda line: None):
        pools = [flag for flag in arguments(home) if flag.startswith("--cuda-memory-pool-byte-size=")]
    assert pools == [f"--cuda-memory-pool-byte-size={index}:{64 * MIB}" for index in (0, 1)]


def test_the_cache_may_lie_outside_the_build(tmp_path: Path) -> None:
    build, cache = toy.write(tmp_path / "build"), tmp_path / "var" / "cache"
    config = toy_config(build, cache_dir=cache)
    assert config.cache == cache
    with Launcher(config, sink=lambda line: None) as launcher:
        # The toy's stages look into the folder that they are told of.
        (cache / "flip").touch()
        frames, audio = toy.clip(3)
        with Client(launcher.config.grpc_url, timeout_s=20) as client:
            answer = client.infer(frames, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"] + np.float32(2**-20))


def test_version_and_libraries_of_a_bare_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    program(tmp_path / "bin" / "tritonserver", "#!/bin/sh\n")
    (tmp_path / "backends" / "tensorrt").mkdir(parents=True)
    assert installed_version(tmp_path) == "of unknown version"
    found = installed_program(tmp_path, "tensorrt", tmp_path / "no environment")
    assert dataclasses.asdict(found) == {
        "tritonserver": tmp_path / "bin" / "tritonserver",
        "backends": tmp_path / "backends",
        "bin_dirs": tuple(os.environ["PATH"].split(os.pathsep)),
        "library_dirs": (),
    }

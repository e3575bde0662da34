"""The launcher, with the real server and a toy build. What must not start is refused and leaves nothing."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import BUILD_FORMAT
from auralsam2_client.errors import ConfigError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.manifest import read_manifest, verify_files
from service.monitoring.metrics import fetch, in_flight
from service.server.config import ServerConfig
from service.server.guardian import processes_of, shared_memory_of
from service.server.launcher import Launcher
from service.server.serving import free_ports
from tests.service.toy import build_folder as toy
from tests.service.toy.running import alive, eventually, kill_process, toy_config


def quiet(line: str) -> None:
    pass


def assert_nothing_left(mark: str) -> None:
    assert processes_of(mark) == []
    assert shared_memory_of(mark) == []


def refuse(config: ServerConfig, error: type[Exception], *words: str) -> None:
    launcher = Launcher(config, sink=quiet)
    with pytest.raises(error) as caught:
        launcher.start()
    for word in words:
        assert word in str(caught.value)
    assert not launcher.ready
    assert_nothing_left(launcher.mark)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return toy.write(tmp_path / "build")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    build = toy.write(tmp_path_factory.mktemp("launcher") / "build")
    (http_port,) = free_ports(1)
    with Launcher(toy_config(build, http_port=http_port), sink=quiet) as launcher:
        yield launcher


def test_ready_means_the_golden_clip_was_answered(running: Launcher) -> None:
    assert running.ready
    assert running.fault() is None
    assert re.fullmatch("[0-9a-f]{64}", running.first_digest)
    assert len(running.stage_pids) == 4
    eventually(lambda: fetch(running.config.metrics_url)["auralsam2"].success >= 1)
    assert shared_memory_of(running.mark)


def test_callers_frames_are_for_this_user_alone(running: Launcher) -> None:
    assert {oct(path.stat().st_mode & 0o777) for path in shared_memory_of(running.mark)} == {"0o600"}


def test_everything_listens_on_loopback_only(running: Launcher) -> None:
    assert running.pid is not None
    connections = psutil.Process(running.pid).net_connections("tcp")
    listening = [one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN]
    assert len(listening) == 3
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_what_a_clip_does_not_need_is_closed(running: Launcher) -> None:
    url = f"http://127.0.0.1:{running.config.http_port}/v2/"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(url + "health/ready", timeout=5).close()
    for closed in ("repository/index", "models/auralsam2/config", "logging", "systemsharedmemory/status"):
        request = urllib.request.Request(url + closed, data=b"{}" if closed == "repository/index" else None)
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(request, timeout=5)
        caught.value.close()
        assert caught.value.code in (400, 403)


def test_a_stopped_launcher_leaves_nothing_and_its_folder_stays_clean(build: Path) -> None:
    lines: list[str] = []
    launcher = Launcher(toy_config(build), sink=lines.append)
    launcher.start()
    pids = [launcher.pid, *launcher.stage_pids]
    folder = launcher._server.folder
    launcher.stop()
    launcher.stop()
    assert_nothing_left(launcher.mark)
    assert folder is not None
    assert not folder.exists()
    assert not any(alive(pid) for pid in pids if pid is not None)
    assert any("successfully loaded 'auralsam2'" in line for line in lines)
    assert launcher.fault() is not None


def test_calls_under_way_are_finished_by_a_gentle_stop(build: Path) -> None:
    with Launcher(toy_config(build), sink=quiet) as launcher, Client(launcher.config.grpc_url) as client:
        frames, audio = toy.clip()
        with ThreadPoolExecutor(2) as pool:
            # One is in the second stage and one waits for it: the server by itself would refuse both the third.
            slow = toy.asking(frames, "sleep", 1)
            calls = [pool.submit(client.infer, slow, audio, timeout_s=20) for _ in range(2)]
            eventually(lambda: in_flight(fetch(launcher.config.metrics_url)) == 2)
            launcher.stop()
            for call in calls:
                assert np.array_equal(call.result(10)["MASK_LOGITS"], toy.expected(slow, audio)["MASK_LOGITS"])
        assert_nothing_left(launcher.mark)


def test_a_port_in_use_is_named_with_its_process(build: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refuse(toy_config(build, grpc_port=port), ConfigError, str(port), f"process {os.getpid()}", "--grpc-port")
        refuse(toy_config(build, metrics_port=port), ConfigError, str(port), "--metrics-port")


def test_the_port_of_a_running_server_is_in_use(running: Launcher, build: Path) -> None:
    config = toy_config(build, grpc_port=running.config.grpc_port)
    refuse(config, ConfigError, f"tritonserver (process {running.pid})")


def test_a_missing_model_file_is_named(build: Path) -> None:
    (build / "models" / "hiera" / "1" / "model.py").unlink()
    refuse(toy_config(build), ConfigError, "models/hiera/1/model.py", "auralsam2 export")


def test_too_little_shared_memory_is_said_before_the_server_starts(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.machine.shared_memory.free_bytes", lambda: 16 << 20)
    refuse(toy_config(build), ConfigError, "16 MiB free", "need 17 MiB", "--shm-size")


def test_an_altered_model_file_is_named_with_both_hashes(build: Path) -> None:
    path = build / "models" / "hiera" / "1" / "model.py"
    before = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    path.write_text(path.read_text() + "\n")
    after = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    refuse(toy_config(build), ConfigError, "models/hiera/1/model.py", before, after, "auralsam2 export")


def test_a_file_that_export_did_not_write_is_refused(build: Path) -> None:
    (build / "models" / "hiera" / "1" / "numpy.py").write_text("")
    refuse(toy_config(build), ConfigError, "models/hiera/1/numpy.py", "not listed")


def test_compiled_files_do_not_run_in_place_of_the_source(build: Path) -> None:
    compiled = build / "models" / "hiera" / "1" / "__pycache__" / "model.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.touch()
    verify_files(build, read_manifest(build))
    assert not compiled.exists()


def test_a_manifest_must_be_there_and_understood(build: Path) -> None:
    toy.write_manifest(build, format=BUILD_FORMAT + 1)
    refuse(toy_config(build), ConfigError, f"format = {BUILD_FORMAT + 1}; this version reads {BUILD_FORMAT}")
    toy.write_manifest(build, files={"../outside": "0"})
    refuse(toy_config(build), ConfigError, "manifest.json lists no file below models/")
    toy.write_manifest(build, files={"models/../../outside": "0"})
    refuse(toy_config(build), ConfigError, "models/../../outside", "inside the build")
    toy.write_manifest(build, num_frames="five")
    refuse(toy_config(build), ConfigError, "num_frames = 'five'")
    (build / "manifest.json").write_text("{")
    refuse(toy_config(build), ConfigError, "manifest.json cannot be read")
    (build / "manifest.json").unlink()
    refuse(toy_config(build), ConfigError, "is not a build", "auralsam2 export")


def test_a_build_of_an_earlier_version_is_refused_with_the_way_out(build: Path) -> None:
    toy.write_manifest(build, format=1)
    refuse(
        toy_config(build), ConfigError, "format = 1", "masks differ from the published network's", "auralsam2 export"
    )


def test_a_golden_file_must_be_there_and_whole(build: Path) -> None:
    path = build / "golden.npz"
    path.write_bytes(path.read_bytes()[:1000])
    refuse(toy_config(build), ConfigError, "golden.npz cannot be read")
    path.unlink()
    refuse(toy_config(build), ConfigError, "golden.npz cannot be read")


def test_a_server_that_answers_wrongly_never_becomes_ready(build: Path) -> None:
    frames, audio = toy.clip(seed=7)
    reference = toy.expected(frames, audio)["MASK_LOGITS"]
    reference[1, 2, 3] += np.float32(0.5)
    toy.write_golden(build, frames, audio, MASK_LOGITS=reference)
    refuse(toy_config(build), ConfigError, "Golden clip", "(1, 2, 3)", "max abs 0.5", "tolerance 1e-05")


def test_a_golden_clip_of_another_shape_is_refused(build: Path) -> None:
    frames, audio = toy.clip(seed=7)
    toy.write_golden(build, frames, audio, MASK_LOGITS=np.zeros((toy.T, 4, 4), np.float32))
    refuse(toy_config(build), ConfigError, "MASK_LOGITS came as float32 [2, 8, 8]", "[2, 4, 4]")


def test_a_stage_that_does_not_load_is_quoted(build: Path) -> None:
    path = build / "models" / "hiera" / "1" / "model.py"
    path.write_text("import no_such_module\n")
    toy.write_manifest(build)
    refuse(toy_config(build), ServerFault, "exit code 1", "No module named 'no_such_module'")


def test_a_start_has_a_deadline(build: Path) -> None:
    (build / "cache" / "hang").touch()
    refuse(toy_config(build, ready_timeout_s=3), ServerTimeout, "3 s")


def test_a_start_can_be_broken_off(build: Path) -> None:
    (build / "cache" / "hang").touch()
    launcher = Launcher(toy_config(build), sink=quiet, aborted=lambda: bool(shared_memory_of(launcher.mark)))
    with pytest.raises(ServerUnavailable, match="broken off"):
        launcher.start()
    assert_nothing_left(launcher.mark)


def test_a_missing_server_environment_is_named(build: Path, tmp_path: Path) -> None:
    refuse(toy_config(build, server_env=tmp_path / "none"), ConfigError, str(tmp_path / "none"), "AURALSAM2_SERVER_ENV")


SCRIPT = """
import sys, time
from pathlib import Path
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.builds.manifest import read_manifest, verify_files
launcher = Launcher(ServerConfig(Path(sys.argv[1]), grpc_port=int(sys.argv[2]), metrics_port=int(sys.argv[3])))
launcher.start()
print(launcher.mark, launcher._server.folder, flush=True)
time.sleep(60)
"""


def test_a_launcher_that_is_killed_leaves_no_server(build: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(build), *map(str, free_ports(2))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as launcher:
        assert launcher.stdout is not None
        mark, folder = launcher.stdout.readline().split()
        stage = processes_of(mark)[-1]
        # A stage that cannot notice by itself that its server is gone.
        os.kill(stage, signal.SIGSTOP)
        assert len(processes_of(mark)) == 5
        kill_process(launcher.pid)
        launcher.wait(5)
        eventually(lambda: not processes_of(mark), within_s=10)
        eventually(lambda: not shared_memory_of(mark), within_s=5)
        eventually(lambda: not Path(folder).exists(), within_s=5)

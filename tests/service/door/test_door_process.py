"""A real door: its limits, its certificates, how it dies, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest

from auralsam2_client.errors import ConfigError
from service.door.front_door import FrontDoor
from service.door.metrics import door_metrics
from service.server.ports import PortTaken
from service.server.serving import free_ports
from tests.service.door.running import (
    ask,
    has_openssl,
    make_certificates,
    needs_nginx,
    standing,
)
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually

pytestmark = needs_nginx


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("door") / "build")


def test_one_caller_has_so_many_calls_and_no_more(build: Path) -> None:
    with standing(build, calls_per_caller=2, requests_per_second=5) as stand:
        with ThreadPoolExecutor(8) as pool:
            codes = [code for code, _ in pool.map(lambda _: ask(stand.url), range(40))]
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        # A burst of twice the rate is let in at once.
        assert codes.count("OK") >= 10
        assert ask(stand.door.door.check_url)[0] == "OK", "the supervisor's own look is nobody else's"


def test_a_server_that_is_away_is_unavailable(build: Path) -> None:
    with standing(build) as stand:
        assert stand.door.server.socket_file is not None
        stand.door.server.socket_file.unlink()
        status, words = ask(stand.url)
    assert status == "UNAVAILABLE"
    assert "behind the door" in words


def test_a_temporary_folder_with_a_long_name_is_no_hindrance(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("a" * 100)
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with standing(build) as stand:
        assert ask(stand.url)[0] == "OK"
        folder = stand.door.folder
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert not list(place.glob("auralsam2-door-*"))


def test_a_door_is_open_once_nginx_listens_and_not_before(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that called itself ready in between refused its first caller."""
    states: list[tuple[bool, float]] = []

    def looked(door: FrontDoor, process: object) -> None:
        (opened,) = (family for family in door_metrics(door) if family.name == "auralsam2_door_open")
        states.append((door.is_open, opened.samples[0].value))
        waited(door, process)  # type: ignore[arg-type]

    waited = FrontDoor._wait_until_open
    monkeypatch.setattr(FrontDoor, "_wait_until_open", looked)
    with standing(build) as stand:
        assert stand.door.is_open
        assert states == [(False, 0)]
    assert not stand.door.is_open


def test_a_door_that_died_is_opened_again(build: Path) -> None:
    with standing(build) as stand:
        before = stand.door.pid
        assert before is not None
        # The workers of a master that was killed outright hold the port.
        os.kill(before, signal.SIGKILL)
        eventually(lambda: stand.door.pid is None)
        stand.door.look()
        assert stand.door.pid not in (None, before)
        assert (stand.door.num_restarts, stand.door.trouble) == (1, "")
        assert ask(stand.url)[0] == "OK"
        assert any("opened again" in line for line in stand.lines)


def test_a_door_that_lets_nothing_through_is_opened_again(build: Path) -> None:
    with standing(build) as stand:
        assert stand.door.server.socket_file is not None
        stand.door.server.socket_file.unlink()

        def opened_again() -> bool:
            stand.door.look()
            return stand.door.num_restarts == 1

        eventually(opened_again)


def test_it_closes_before_calls_under_way_end(build: Path) -> None:
    with standing(build) as stand:
        group = stand.door.pid
        assert group is not None
        assert ask(stand.url)[0] == "OK"
        assert stand.door.close(10)
        assert ask(stand.url)[0] == "UNAVAILABLE"
        folder = stand.door.folder
    assert not folder.exists()
    assert not [p for p in psutil.process_iter(["name"]) if p.info["name"] == "nginx" and os.getpgid(p.pid) == group]


def test_a_taken_port_is_said(build: Path) -> None:
    with standing(build) as stand:
        other = FrontDoor(stand.door.door.config, stand.door.door.nginx, stand.lines.append)
        with other, pytest.raises(PortTaken, match=r"grpc_port.*held by nginx.*--grpc-port"):
            other.open()


def test_what_nginx_says_of_a_broken_certificate_is_quoted(build: Path, tmp_path: Path) -> None:
    for name in ("a.pem", "a.key"):
        (tmp_path / name).write_text("no certificate\n")
    given = {"tls_certificate": tmp_path / "a.pem", "tls_key": tmp_path / "a.key"}
    with (
        pytest.raises(ConfigError, match=r"did not open the front door: .*cannot load certificate"),
        standing(build, **given),
    ):
        pass


@pytest.mark.skipif(not has_openssl(), reason="openssl is not installed: nginx's package brings it on Debian")
def test_tls_and_certificates_of_callers(build: Path, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    given = {"tls_certificate": made["server.pem"], "tls_key": made["server.key"], "tls_client_ca": made["ca.pem"]}
    root = made["ca.pem"].read_bytes()
    shown = grpc.ssl_channel_credentials(root, made["caller.key"].read_bytes(), made["caller.pem"].read_bytes())
    with standing(build, **given) as stand:
        with grpc.secure_channel(stand.url, shown) as channel:
            status, told = ask(stand.url, channel=channel)
        assert status == "OK"
        assert re.fullmatch("cert:[0-9a-f]{40}", dict(told["headers"])["auralsam2-caller"])
        before = len(stand.server.seen)
        with grpc.secure_channel(stand.url, grpc.ssl_channel_credentials(root)) as channel:
            assert ask(stand.url, channel=channel)[0] == "UNAUTHENTICATED"
        assert ask(stand.url)[0] == "UNAVAILABLE"
        assert len(stand.server.seen) == before
        assert ask(stand.door.door.check_url)[0] == "OK"


def test_a_slow_sender_is_cut(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.door.configuration.HEADER_S", 1)
    with standing(build) as stand:
        host, port = stand.url.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            since = time.monotonic()
            while connection.recv(4096):  # what nginx says first
                pass
            assert time.monotonic() - since < 20


OPEN_AND_WAIT = """
import sys, time
from pathlib import Path
from service.door.front_door import FrontDoor
from service.door.nginx import find_nginx
from service.server.config import ServerConfig
door = FrontDoor(ServerConfig(Path(sys.argv[1]), grpc_port=int(sys.argv[2]), door="on"), find_nginx(), print)
door.open()
print(door.pid, door.folder, flush=True)
time.sleep(60)
"""


def test_a_service_that_is_killed_leaves_no_door(build: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", OPEN_AND_WAIT, str(build), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        pid, folder = service.stdout.readline().split()
        workers = psutil.Process(int(pid)).children()
        service.kill()
    eventually(lambda: not any(process.is_running() for process in workers) and not Path(folder).exists())
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE

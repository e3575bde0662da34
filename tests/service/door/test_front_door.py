"""A real nginx before a stand-in for the server: what comes through, what does not, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest

from auralsam2_client.errors import ConfigError
from service.door.front_door import FrontDoor
from service.door.metrics import door_metrics
from service.door.nginx import find_nginx
from service.server.ports import PortTaken
from service.server.serving import free_ports
from tests.service.door.running import (
    INFER,
    SERVICE,
    Standing,
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


@pytest.fixture(scope="module")
def stand(build: Path) -> Iterator[Standing]:
    with standing(build) as found:
        yield found


@pytest.mark.parametrize("name", ["ModelInfer", "ServerLive", "ServerReady", "ModelReady", "ModelMetadata"])
def test_what_clients_call_comes_through(stand: Standing, name: str) -> None:
    assert ask(stand.url, SERVICE + name, b"1234")[1]["bytes"] == 4


def test_the_standard_health_check_comes_through(stand: Standing) -> None:
    assert ask(stand.url, "/grpc.health.v1.Health/Check")[0] == "OK"


@pytest.mark.parametrize(
    "method",
    [
        f"{SERVICE}ModelStreamInfer",
        f"{SERVICE}RepositoryIndex",
        f"{SERVICE}RepositoryModelLoad",
        f"{SERVICE}ModelConfig",
        f"{SERVICE}ModelStatistics",
        f"{SERVICE}SystemSharedMemoryRegister",
        f"{SERVICE}CudaSharedMemoryRegister",
        f"{SERVICE}TraceSetting",
        f"{SERVICE}LogSettings",
        f"{SERVICE}modelinfer",
        "/grpc.health.v1.Health/Watch",
        "/x/y",
    ],
)
def test_nothing_else_does(stand: Standing, method: str) -> None:
    before = len(stand.server.seen)
    status, words = ask(stand.url, method, b"1234")
    assert status == "UNIMPLEMENTED"
    assert "ModelInfer" in words
    assert len(stand.server.seen) == before


def test_a_stream_is_refused_as_a_stream(stand: Standing) -> None:
    with grpc.insecure_channel(stand.url) as channel:
        call = channel.stream_stream(f"{SERVICE}ModelStreamInfer")(
            iter([b"a", b"b"]), timeout=10, metadata=[("triton_grpc_error", "true")]
        )
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_headers_are_stripped_and_nobody_chooses_who_calls(stand: Standing) -> None:
    forged = [
        *[("auralsam2-caller", "me"), ("auralsam2-caller", "you"), ("auralsam2-request", "0" * 32)],
        *[("triton_grpc_error", "true"), ("traceparent", "00-1-1-01"), ("grpc-trace-bin", b"12"), ("x-any", "1")],
    ]
    status, told = ask(stand.url, metadata=forged)
    assert status == "OK"
    headers = dict(told["headers"])
    assert len(headers) == len(told["headers"]), "none comes twice"
    assert headers["auralsam2-caller"] == "127.0.0.1"
    assert re.fullmatch("[0-9a-f]{32}", headers["auralsam2-request"])
    assert headers["auralsam2-request"] != "0" * 32
    assert not {"triton_grpc_error", "traceparent", "grpc-trace-bin"} & set(headers)
    nginx = find_nginx()
    assert nginx is not None
    if nginx.headers_module is not None:
        assert set(headers) <= {"auralsam2-caller", "auralsam2-request", "te", "content-type"}
    again = dict(ask(stand.url)[1]["headers"])
    assert again["auralsam2-request"] != headers["auralsam2-request"]


def test_a_deadline_comes_through(stand: Standing) -> None:
    assert 10 < ask(stand.url)[1]["left_s"] <= 20


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_unfold_nowhere(stand: Standing, kind: grpc.Compression) -> None:
    before = len(stand.server.seen)
    status, words = ask(stand.url, INFER, bytes(1 << 20), compression=kind)
    assert status == "UNIMPLEMENTED"
    assert "Compressed" in words
    assert len(stand.server.seen) == before


def test_a_message_is_as_large_as_a_clip_at_most(stand: Standing) -> None:
    most = stand.door.door.max_message_bytes
    assert ask(stand.url, INFER, bytes(most - 100))[1]["bytes"] == most - 100
    before = len(stand.server.seen)
    status, words = ask(stand.url, INFER, bytes(most + (1 << 20)))
    assert (status, len(stand.server.seen)) == ("INVALID_ARGUMENT", before)
    assert "MiB" in words


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xa5", bytes(range(256))])
def test_other_protocols_get_nothing(stand: Standing, first: bytes) -> None:
    host, port = stand.url.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(first)
        answer = connection.recv(4096)
    assert b"HTTP/1.1 200" not in answer
    assert ask(stand.url)[0] == "OK"


def test_idle_connections_shut_nobody_out(stand: Standing) -> None:
    host, port = stand.url.split(":")
    connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(420)]
    try:
        assert ask(stand.url)[0] == "OK"
        stand.door.look()
        assert stand.door.trouble == ""
    finally:
        for connection in connections:
            connection.close()


def test_calls_are_noted_and_counted(stand: Standing) -> None:
    ask(stand.url, f"{SERVICE}ModelReady", b"12345")

    def counted() -> bool:
        stand.door.calls.look()
        return stand.door.calls.counts()[0]["ModelReady", "0"] >= 1

    eventually(counted, 10)
    found = {family.name: family.samples for family in door_metrics(stand.door)}
    assert found["auralsam2_door_open"][0].value == 1
    assert found["auralsam2_door_accepted_connections"][0].value >= 1
    assert found["auralsam2_door_received_bytes"][0].value > 0


def test_the_folder_is_the_users_own(stand: Standing) -> None:
    assert stand.door.folder.stat().st_mode & 0o077 == 0


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
            assert ask(stand.url, channel=channel)[0] in ("UNAVAILABLE", "UNKNOWN", "INVALID_ARGUMENT")
        assert ask(stand.url)[0] == "UNAVAILABLE"
        assert len(stand.server.seen) == before
        assert ask(stand.door.door.check_url)[0] == "OK"


def test_a_slow_sender_is_cut(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.door.configuration.HEADER_S", 1)
    with standing(build) as stand:
        host, port = stand.url.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            since = time.monotonic()
            assert connection.recv(1) == b"", "it says nothing, and is closed"
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

"""A real nginx before a stand-in for the server: what comes through, what does not, and how it ends."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from service.door.metrics import door_metrics
from service.door.nginx import find_nginx
from tests.service.door.running import (
    INFER,
    SERVICE,
    Standing,
    ask,
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
    assert 10 < ask(stand.url)[1]["left_s"] < 21


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

"""Addresses as people give them: they work as host:port, or say that host:port is wanted."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from auralsam2_client.calls.address import parse_address, speaks_http
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.health import check_health
from auralsam2_client.errors import BadInput


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://127.0.0.1:8001", "127.0.0.1:8001"),
        ("HTTP://gpu-3.example.org:65535/", "gpu-3.example.org:65535"),
        ("grpc://localhost:1", "localhost:1"),
        (" localhost:8001\n", "localhost:8001"),
        ("[::1]:8001", "[::1]:8001"),
        ("http://[fe80::1]:8001", "[fe80::1]:8001"),
        ("dns:///server:8001", "dns:///server:8001"),
        ("ipv4:10.0.0.1:8001,10.0.0.2:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
        ("unix:/run/server.sock", "unix:/run/server.sock"),
    ],
)
def test_forms_that_work(given: str, wanted: str) -> None:
    assert parse_address(given) == wanted


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("localhost", "has no port"),
        ("http://localhost", "has no port"),
        ("[::1]", "has no port"),
        (":8001", "has no host"),
        ("http://", "has no port"),
        ("::1:8001", r"IPv6 address stands in brackets, as \[::1\]:8001"),
        ("localhost:", "the port ''; a port is 1 to 65535"),
        ("localhost:0", "the port '0'"),
        ("localhost:65536", "the port '65536'"),
        ("localhost:-1", "the port '-1'"),
        ("localhost:grpc", "the port 'grpc'"),
        ("localhost:٨٠٠١", "a port is 1 to 65535"),
        ("localhost:8001/v2/models", "more in it than a host and a port"),
        ("http://me:secret@localhost:8001", "more in it than a host and a port"),
        ("local host:8001", "more in it than a host and a port"),
        ("https://localhost:8001", "begins with https://, and the client speaks plain gRPC, without TLS"),
        ("tcp://localhost:8001", "begins with tcp://"),
        ("grpcs://localhost:8001", "begins with grpcs://"),
    ],
)
def test_forms_that_cannot_are_refused_at_once(given: str, what: str) -> None:
    with pytest.raises(BadInput, match=f"{what}.*; give host:port of the server's gRPC"):
        Client(given)


@pytest.fixture
def web_page() -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_port_of_metrics_is_told_from_a_server_that_is_away(web_page: str) -> None:
    with Client(f"http://{web_page}", timeout_s=20, retries=2) as client:
        with pytest.raises(BadInput, match=f"at {web_page} speaks HTTP/1, not gRPC.*host:port"):
            client.clip_shape()
        assert not client.is_ready()

    async def ask() -> None:
        async with AsyncClient(web_page, timeout_s=20) as other:
            await other.clip_shape()

    with pytest.raises(BadInput, match="speaks HTTP/1, not gRPC"):
        asyncio.run(ask())


def test_nobody_and_other_targets_speak_no_http() -> None:
    assert not speaks_http("127.0.0.1:1")
    assert not speaks_http("unix:/none")


def test_the_health_check_takes_the_same_addresses() -> None:
    with pytest.raises(BadInput, match="has no port"):
        check_health("http://localhost")

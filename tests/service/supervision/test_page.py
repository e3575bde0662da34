"""The page of metrics against callers who mean it ill."""

import http.client
import io
import socket
from collections.abc import Iterator

import pytest

from service.supervision.page import MOST_BYTES, MOST_CONNECTIONS, Bounded, PageServer
from tests.service.toy.running import eventually


@pytest.fixture
def page() -> Iterator[PageServer]:
    server = PageServer(("127.0.0.1", 0), lambda: b"a 1\n", longest_s=0.5)
    server.start()
    yield server
    server.stop()


def get(page: PageServer, path: str = "/metrics", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_page_is_answered_and_nothing_else(page: PageServer) -> None:
    assert get(page) == (200, b"a 1\n")
    assert get(page, "/metrics?name[]=a") == (200, b"a 1\n")
    assert get(page, "/etc/passwd")[0] == 404


def test_a_request_is_short(page: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", page.server_port), timeout=10) as connection:
        # A line without an end.
        connection.sendall(b"GET /" + b"x" * (MOST_BYTES - 5))
        assert not connection.recv(100).startswith(b"HTTP/1.0 200")
    reader = Bounded(io.BytesIO(b"a\n" * MOST_BYTES), MOST_BYTES)
    assert sum(len(reader.readline(1000)) for _ in range(MOST_BYTES)) == MOST_BYTES
    assert get(page)[0] == 200


def test_a_body_is_not_read(page: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", page.server_port), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200")


def test_connections_that_say_nothing_make_room(page: PageServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", page.server_port), timeout=10) for _ in range(3 * MOST_CONNECTIONS)]

    def answered() -> bool:
        try:
            return get(page)[0] == 200
        except (http.client.HTTPException, OSError):
            return False

    eventually(answered, 20)
    for connection in idle:
        connection.close()

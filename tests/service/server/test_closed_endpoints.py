"""What is closed over gRPC stays closed for who knows the key, which every user of the machine can read.

The requests are put together byte by byte, since no library sends what HTTP/2 forbids.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator

import psutil
import pytest

from service.server.flags import NO_HEADER
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.running import toy_config

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
NEVER_KEPT, KEPT = 0x00, 0x40
OPEN, CLOSED = "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/RepositoryIndex"
# Of the build's models, one that an index lists.
LISTED = b"aural_fuser"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    build = toy.write(tmp_path_factory.mktemp("closed") / "build")
    with Launcher(toy_config(build), sink=lambda line: None) as launcher:
        yield launcher


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: str, value: str, how: int = NEVER_KEPT) -> bytes:
    words = (name.encode(), value.encode())
    return bytes([how]) + b"".join(bytes([len(word)]) + word for word in words)


def ask(stream: int, path: str, *more: bytes) -> bytes:
    known = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here"}
    known |= {"content-type": "application/grpc", "te": "trailers"}
    headers = b"".join(literal(*item) for item in known.items()) + b"".join(more)
    return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, b"\0" * 5)


def answers(launcher: Launcher, *requests: bytes) -> bytes:
    """All that the server says to requests of one connection until it is silent for a second."""
    said = b""
    with socket.create_connection((launcher.config.own_host, launcher.config.grpc_port), timeout=10) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(requests))
        said += connection.recv(1 << 16)
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            while some := connection.recv(1 << 16):
                said += some
    return said


def read_key(launcher: Launcher) -> tuple[str, str]:
    """Header and key, as any user of the machine reads them."""
    (flag,) = (word for word in psutil.Process(launcher.pid).cmdline() if word.startswith("--grpc-restricted-protocol"))
    name, _, key = flag.rpartition(":")[2].partition("=")
    assert name == NO_HEADER
    return f"triton-grpc-protocol-{name}", key


def test_requests_put_together_here_are_understood(running: Launcher) -> None:
    said = answers(running, ask(1, OPEN))
    assert b"grpc-status\x010" in said
    assert b"This protocol is restricted" in answers(running, ask(1, CLOSED))


@pytest.mark.parametrize("how", [NEVER_KEPT, KEPT])
def test_who_knows_the_key_is_refused(running: Launcher, how: int) -> None:
    name, key = read_key(running)
    for sent in (name, name.lower(), name.upper()):
        # The second request repeats a header that the first has put in the connection's table.
        again = [ask(3, CLOSED, bytes([0x80 | 62]))] if how == KEPT else []
        assert LISTED not in answers(running, ask(1, CLOSED, literal(sent, key, how)), *again)

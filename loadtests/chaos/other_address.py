"""A way to a port of loopback by which callers come from another address of it, as from another machine."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_BLOCK_BYTES = 1 << 16


@contextmanager
def from_address(source: str, port: int) -> Iterator[int]:
    """Give a port whose connections reach `port` of 127.0.0.1 from the address `source` of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, source, port), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, source: str, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
            far.settimeout(None)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(given: socket.socket, taken: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := given.recv(_BLOCK_BYTES):
            taken.sendall(block)
    for end in (given, taken):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

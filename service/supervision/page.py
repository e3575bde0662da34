"""One page over HTTP, for whoever can reach the port: what a caller can take of it is bounded.

A request is a line and a few headers, read within seconds; a body is not read. So many connections at once, and one
that is older than it may be makes room.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATHS = ("/metrics", "/")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_CONNECTIONS = 16
# Of one connection, from its first byte to the last of the answer.
LONGEST_S = 10.0
MOST_BYTES = 16 << 10
"""Of a request."""


class PageServer(ThreadingHTTPServer):
    """Serves what `page` returns at each request. Raises: OSError when the address cannot be listened on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], page: Callable[[], bytes], *, longest_s: float = LONGEST_S) -> None:
        self.page, self.longest_s = page, longest_s
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        super().__init__(address, _Handler)

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and end what is under way."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._since:
                _cut(connection)
        self._thread.join(5)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection while there is room; those that are too old make some."""
        with self._lock:
            now = time.monotonic()
            for connection, since in self._since.items():
                if now - since > self.longest_s:
                    _cut(connection)
            if len(self._since) >= MOST_CONNECTIONS:
                return False
            self._since[request] = now
        return True

    def service_actions(self) -> None:
        """Cut the connections that are too old."""
        with self._lock:
            for connection, since in self._since.items():
                if time.monotonic() - since > self.longest_s:
                    _cut(connection)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and forget it."""
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over connections that broke: a caller's matter."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET alone."""

    server: PageServer
    timeout = 5.0
    server_version = "auralsam2"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = Bounded(self.rfile, MOST_BYTES)  # type: ignore[assignment]

    def do_GET(self) -> None:
        """Answer with the page."""
        if self.path.partition("?")[0] not in PATHS:
            self.send_error(404)
            return
        text = self.server.page()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: callers would fill the log."""


class Bounded:
    """Reads lines of a stream up to a number of bytes in all; then it is at its end."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._left = stream, most

    def readline(self, size: int = -1) -> bytes:
        """Read a line, of `size` bytes at most."""
        line: bytes = self._stream.readline(self._left if size < 0 else min(size, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

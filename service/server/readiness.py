"""Until a server is ready: its port opens, it says that it is ready, and its first answer is the build's own."""

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import RAW
from auralsam2_client.contract import GOLDEN_CALLER
from auralsam2_client.errors import AuralServeError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.golden_call import GoldenCall
from service.builds.golden_request import GoldenRequest, digest
from service.server.config import ServerConfig
from service.server.server_process import ServerProcess, describe_exit


@dataclass(frozen=True)
class FirstAnswer:
    """What a golden request showed."""

    duration_s: float
    digest: str


@dataclass(frozen=True)
class Readiness:
    """Waits for a server that was started.

    Each wait ends with ServerUnavailable once `aborted` is true, with ServerFault when the server ends by itself, and
    with ServerTimeout after `deadline`, which is on the clock of `time.monotonic` and comes
    `ready_timeout_s` after the start.
    """

    config: ServerConfig
    server: ServerProcess
    aborted: Callable[[], bool]
    deadline: float
    ready_timeout_s: float

    def wait_until_it_says_ready(self) -> None:
        """Wait for its ports, which the server opens only after every model is loaded, and then for its word.

        The port of the metrics opens last: whoever is told "ready" may read them at once.
        """
        metrics = urlsplit(self.config.metrics_url)
        file = self.config.socket_file
        places: dict[str, tuple[str, int] | Path] = {
            "its port is still closed": (self.config.own_host, self.config.grpc_port) if file is None else file,
            "its port of metrics is still closed": (metrics.hostname or "", self.config.metrics_port),
        }
        for still, place in places.items():
            while True:
                self._check_progress(still)
                if _is_open(place):
                    break
                time.sleep(0.05)
        with self._client() as client:
            while not client.is_ready(timeout_s=5):
                self._check_progress("it says that it is not ready")
                time.sleep(0.05)

    def ask(self, request: GoldenRequest) -> FirstAnswer:
        """Send a golden request and check its answer.

        Raises: WrongAnswer when it is wrong; the error of the call when there is none, with the server's last words.
        """
        with self._client() as client:
            call = GoldenCall(request, client, max(1.0, self.deadline - time.monotonic()))
            while not call.done(within_s=0.1):
                self._check_progress(f"its first answer by {request.path} has not come")
            try:
                replies = call.replies()
            except AuralServeError as error:
                # The process may have died of this very request; that then is the better message.
                time.sleep(0.2)
                self._check_progress(f"its first answer by {request.path} did not come")
                told = f"The golden clip by {request.path} got no answer."
                raise type(error)(f"{told} {error} {self.server.quote_errors()}") from error
        request.check(replies)
        return FirstAnswer(call.duration_s, digest(replies))

    def with_time_of_its_own(self) -> "Readiness":
        """Give what comes next as many seconds as the start had."""
        return replace(self, deadline=time.monotonic() + self.ready_timeout_s)

    def _client(self) -> Client:
        config = self.config
        return Client(config.grpc_url, config.model, wire=RAW, caller=GOLDEN_CALLER, secret=self.server.secret)

    def _check_progress(self, waiting_for: str) -> None:
        if self.aborted():
            raise ServerUnavailable("The start was broken off.")
        self.server.close_shared_memory()
        code = self.server.exit_code
        if code is not None:
            raise ServerFault(
                f"The server ended with {describe_exit(code)} before it was ready. {self.server.quote_errors()}"
            )
        if time.monotonic() > self.deadline:
            raise ServerTimeout(
                f"The server was not ready in {self.ready_timeout_s:g} s ({waiting_for}). "
                f"Raise ready_timeout_s for a slow machine. {self.server.quote_errors()}"
            )


def _is_open(place: tuple[str, int] | Path) -> bool:
    family = socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family) as probe:
        probe.settimeout(1)
        probe.connect(str(place) if isinstance(place, Path) else place)
        return True
    return False

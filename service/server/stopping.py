"""A gentle stop: the calls under way are waited for before the server is told to end."""

import time

from auralsam2_client.errors import ServerFault, ServerUnavailable
from service.monitoring.metrics import fetch, in_flight
from service.server.config import ServerConfig
from service.server.server_process import ServerProcess

# An idle server takes 2.3 to 2.9 s from SIGTERM to its end.
SHUTDOWN_S = 5.0


def drain(server: ServerProcess, config: ServerConfig, golden_duration_s: float, drain_s: float) -> None:
    """Wait up to `drain_s` for the calls under way, then send SIGTERM and wait for the server to end.

    On SIGTERM the server finishes the stage that a clip is in and refuses it the next one, so the calls come first.
    """
    drain_until = time.monotonic() + drain_s
    idle = _wait_until_idle(server, config, golden_duration_s, drain_until)
    # The server itself waits for sequences that nobody ended, so an idle one is not given all of drain_s.
    server.terminate(SHUTDOWN_S if idle else max(SHUTDOWN_S, drain_until - time.monotonic()))


def _wait_until_idle(server: ServerProcess, config: ServerConfig, golden_duration_s: float, deadline: float) -> bool:
    """Wait; tell whether the server was found idle before the deadline."""
    # A clip in the first stage does not show, so the server must look idle for as long as any stage takes.
    settle_s = min(golden_duration_s, 2.0)
    idle_since = time.monotonic()
    while time.monotonic() < deadline and server.fault() is None:
        try:
            if in_flight(fetch(config.metrics_url, timeout_s=2), config.model):
                idle_since = time.monotonic()
        except (ServerUnavailable, ServerFault):
            return False
        if time.monotonic() - idle_since >= settle_s:
            return True
        time.sleep(0.02)
    return False

"""A gentle stop: nobody is let in any more, the calls under way are answered, then the server ends."""

import time

from auralsam2_client.contract import IN_FLIGHT_METRIC, ROUNDS_UNDER_WAY_METRIC
from auralsam2_client.errors import ServerFault, ServerUnavailable
from service.monitoring.metrics import in_flight, parse, read_page, total, waiting_rounds
from service.server.config import ServerConfig
from service.server.server_process import ServerProcess

# From SIGTERM to the server's end at the least: an idle one takes 2.3 to 2.9 s.
SHUTDOWN_S = 5.0
# A clip is counted as answered when its answer is handed to gRPC, which then takes as long as this to send it.
LEAST_SETTLE_S = 0.5
MOST_SETTLE_S = 2.0


def drain(server: ServerProcess, config: ServerConfig, golden_duration_s: float, drain_s: float) -> None:
    """Refuse new calls with UNAVAILABLE, and wait up to `drain_s` for those under way.

    A server that is idle then may be killed, and should: from SIGTERM on it answers NOT_FOUND for its last seconds,
    where a closed connection is UNAVAILABLE. One that still works gets SIGTERM, and finishes the stages it is in.
    """
    drain_until = time.monotonic() + drain_s
    server.close_admission()
    if not _wait_until_idle(server, config, golden_duration_s, drain_until):
        server.terminate(max(SHUTDOWN_S, drain_until - time.monotonic()))


def _wait_until_idle(server: ServerProcess, config: ServerConfig, golden_duration_s: float, deadline: float) -> bool:
    """Wait; tell whether the server was found idle before the deadline."""
    # A clip in the first stage may not show, so the server must look idle for as long as any stage takes.
    settle_s = min(max(golden_duration_s, LEAST_SETTLE_S), MOST_SETTLE_S)
    idle_since = time.monotonic()
    while time.monotonic() < deadline and server.fault() is None:
        try:
            if num_under_way(read_page(config.metrics_url, timeout_s=2), config.model):
                idle_since = time.monotonic()
        except (ServerUnavailable, ServerFault):
            return False
        if time.monotonic() - idle_since >= settle_s:
            return True
        time.sleep(0.02)
    return False


def num_under_way(page: str, model: str) -> int:
    """Count the clips and rounds that somebody waits for, by the server's page of metrics.

    The server's counters take a call that went to a stage by its name for a clip that never ends. The stages' gauge, of
    builds that have one, takes a clip that was lost between two stages for one under way. So what both count is.
    """
    counters = parse(page)
    counted = in_flight(counters, model)
    if f"\n{IN_FLIGHT_METRIC}" not in f"\n{page}":
        return counted
    admitted = int(total(page, IN_FLIGHT_METRIC)) + waiting_rounds(counters, model)
    return min(counted, admitted) + int(total(page, ROUNDS_UNDER_WAY_METRIC))

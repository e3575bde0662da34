"""A served build answers every golden request as the network does: at its start, and when it is asked again."""

from typing import Any

import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import RAW
from service.builds.golden_request import digest


def test_the_start_has_proven_every_path_and_each_is_answered_so_again(served_compact: Any) -> None:
    launcher = served_compact.launcher
    golden = launcher.golden
    assert len(golden.requests) == 10
    with Client(served_compact.config.grpc_url, wire=RAW, timeout_s=120) as client:
        for request in golden.requests:
            replies = request.ask(client, 120)
            assert request.check(replies) <= 1
            # Proven by this start, or by one before it on the same machine.
            assert launcher.digests.get(request.path, digest(replies)) == digest(replies)
    assert launcher.fault() is None


def test_a_golden_request_leaves_no_session_behind(served_compact: Any) -> None:
    from service.monitoring.metrics import read_page, total

    (session,) = (each for each in served_compact.launcher.golden.requests if each.in_session)
    with Client(served_compact.config.grpc_url, wire=RAW, timeout_s=120) as client:
        session.ask(client, 120)
    assert total(read_page(served_compact.config.metrics_url), "auralsam2_sessions") == pytest.approx(0)

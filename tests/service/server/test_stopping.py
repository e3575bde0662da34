"""A gentle stop, of a server that is a stand-in: what is looked at, and when it is told to end."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from auralsam2_client.contract import closing_path
from auralsam2_client.errors import ServerUnavailable
from service.server import stopping
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.server_process import ServerProcess
from service.server.stopping import LEAST_SETTLE_S, SHUTDOWN_S, drain, num_under_way
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, toy_config

IDLE = 'nv_inference_request_success{model="auralsam2"} 4\nnv_inference_request_success{model="vggish"} 4\n'
BUSY = 'nv_inference_request_success{model="auralsam2"} 4\nnv_inference_request_success{model="vggish"} 6\n'


class Server:
    """What a stop does with a server, in order."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def close_admission(self) -> None:
        self.told.append("closed")

    def fault(self) -> None:
        return None

    def terminate(self, patience_s: float) -> None:
        self.told.append(patience_s)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[object], float]]:
    """Stop a server whose page reads as given, second by second; return what it was told, and the seconds it took."""

    def run(pages: Callable[[float], str], drain_s: float = 30.0) -> tuple[list[object], float]:
        server, now = Server(), [0.0]

        def pause(seconds: float) -> None:
            now[0] += seconds

        def page(url: str, timeout_s: float) -> str:
            server.told.append("asked") if "asked" not in server.told else None
            return pages(now[0])

        monkeypatch.setattr("service.server.stopping.time.monotonic", lambda: now[0])
        monkeypatch.setattr("service.server.stopping.time.sleep", pause)
        monkeypatch.setattr(stopping, "read_page", page)
        drain(cast(ServerProcess, server), ServerConfig(Path("/somewhere/build")), 0.1, drain_s)
        return server.told, now[0]

    return run


def test_the_way_in_is_shut_before_anything_else_and_an_idle_server_is_not_asked_to_end(
    stop: Callable[..., tuple[list[object], float]],
) -> None:
    told, took_s = stop(lambda now: BUSY if now < 3 else IDLE)
    assert told == ["closed", "asked"]
    assert 2.9 + LEAST_SETTLE_S <= took_s <= 3.1 + LEAST_SETTLE_S


def test_a_server_that_is_never_idle_finishes_the_stages_it_is_in(
    stop: Callable[..., tuple[list[object], float]],
) -> None:
    told, took_s = stop(lambda now: BUSY, drain_s=10)
    assert told == ["closed", "asked", SHUTDOWN_S]
    assert 10 <= took_s < 10.1


def test_a_server_that_cannot_be_asked_is_given_its_time(stop: Callable[..., tuple[list[object], float]]) -> None:
    def gone(now: float) -> str:
        raise ServerUnavailable("no page")

    told, _ = stop(gone, drain_s=30)
    assert told == ["closed", "asked", 30]


def test_what_only_one_of_two_counts_takes_for_a_clip_is_none() -> None:
    gauge = "auralsam2_clips_in_flight_limit 8\nauralsam2_clips_in_flight {}\n"
    assert num_under_way(BUSY, "auralsam2") == 2
    # Two calls of vggish by its name, which the stages did not let in or let go.
    assert num_under_way(BUSY + gauge.format(0), "auralsam2") == 0
    # Two clips that were lost on their way, and hold places.
    assert num_under_way(IDLE + gauge.format(2), "auralsam2") == 0
    assert num_under_way(BUSY + gauge.format(1), "auralsam2") == 1
    rounds = 'nv_inference_pending_request_count{model="auralsam2_session"} 2\nauralsam2_session_rounds_under_way 1\n'
    assert num_under_way(IDLE + gauge.format(0) + rounds, "auralsam2") == 3


def test_stages_find_the_note_while_calls_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Launcher(toy_config(toy.write(tmp_path / "build")), sink=lambda line: None) as launcher:
        noted = closing_path(launcher.mark)
        seen: list[bool] = []

        def look(page: str, model: str) -> int:
            seen.append(noted.exists())
            return 0

        monkeypatch.setattr(stopping, "num_under_way", look)
        assert not noted.exists()
        launcher.stop()
    assert seen
    assert all(seen)
    eventually(lambda: not noted.exists(), within_s=1)

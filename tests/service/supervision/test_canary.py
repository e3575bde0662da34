"""What the lack of an answer says: a server that is full or busy is told from one that is broken. No server runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from auralsam2_client.contract import Reason
from auralsam2_client.errors import AuralServeError, ServerFault, ServerTimeout, ServerUnavailable
from service.monitoring.metrics import ModelCounters
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.supervision import canary as module
from service.supervision.canary import FULL_PATIENCE_S, Canary

UNREACHABLE = ServerUnavailable("failed to connect to all addresses")


@dataclass
class Launch:
    """Of a launcher, what the canary asks it for."""

    config: ServerConfig
    pid: int | None = 1
    first_digest: str = "0"
    golden_duration_s: float = 0.1
    secret: str = ""


@dataclass
class Around:
    """The canary, its clock, and what it would see of a server."""

    canary: Canary
    lines: list[str]
    now: float = 0.0
    full: bool = False
    answered: int | None = field(default=None)

    def judge(self, error: AuralServeError) -> tuple[str, str] | None:
        return self.canary._judge(error)


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    lines: list[str] = []
    monkeypatch.setattr("service.supervision.canary.time.monotonic", lambda: found.now if found is not None else 0.0)
    found: Around | None = None
    launch = Launch(ServerConfig(Path("/somewhere/build"), canary_timeout_s=20))
    found = Around(Canary(cast(Launcher, launch), lines.append), lines)

    def fetch(url: str, timeout_s: float) -> dict[str, ModelCounters]:
        if found.answered is None:
            raise ServerUnavailable("no page")
        return {"auralsam2": ModelCounters(success=found.answered)}

    monkeypatch.setattr(module, "fetch", fetch)
    monkeypatch.setattr(module, "is_full", lambda pid: found.full)
    yield found
    found.canary.close()


def test_a_server_that_cannot_be_reached_is_broken(around: Around) -> None:
    assert around.judge(UNREACHABLE) == ("canary", str(UNREACHABLE))
    assert not around.canary.trouble


@pytest.mark.parametrize("error", [UNREACHABLE, ServerTimeout("no answer in 20 s")])
def test_a_server_that_holds_all_files_it_may_is_left_alone(around: Around, error: AuralServeError) -> None:
    around.full = True
    for around.now in (0, 100, FULL_PATIENCE_S - 1):
        assert around.judge(error) is None
    assert "nobody can connect" in around.canary.trouble
    assert len([line for line in around.lines if line.startswith("full: ")]) == 1
    # By then the server has closed connections that idled; one that is full still is not well.
    around.now = FULL_PATIENCE_S
    assert around.judge(error) is not None


def test_a_server_that_answers_others_is_left_alone(around: Around) -> None:
    around.answered = 1
    assert around.judge(UNREACHABLE) is None
    assert around.canary.trouble
    around.answered = 0
    assert around.judge(UNREACHABLE) is not None


def test_a_fault_is_one_however_full_the_server_is(around: Around) -> None:
    around.full = True
    assert around.judge(ServerFault("a stage died")) == ("canary", "a stage died")


def test_a_busy_server_has_its_patience(around: Around) -> None:
    refused = ServerUnavailable("8 clips are in flight", code=Reason.QUEUE_FULL)
    assert around.judge(refused) is None
    around.now = 20
    kind, reason = around.judge(refused) or ("", "")
    assert (kind, reason) == ("canary", "no clip was answered in 20.0 s")

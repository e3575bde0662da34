"""No reaction hangs on words: with every message of ours replaced by another, all that happens is told apart as before.

Refusals are raised by the stages' own code, leave by the adapter's door, cross the wire as the server hands them on,
and are read by the client and the supervisor.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from auralsam2_client import contract
from auralsam2_client.calls import wire_errors
from auralsam2_client.contract import BUSY, Reason
from auralsam2_client.errors import AuralServeError, BadInput, ServerFault, ServerUnavailable, SessionEnded
from model_repository.stage_runtime.admission.clip_table import ClipTable
from model_repository.stage_runtime.engine.refusals import Refusal
from model_repository.stage_runtime.prompts.reading import read_prompts
from model_repository.stage_runtime.sessions.sessions import Limits, Sessions
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.supervision.canary import Canary
from tests.model_repository.prompted_stand_in import CLIP, StandIn, features, heard, points

OTHER_WORDS = "no queue, no session has ended: other words"


def encode(sound: bool) -> Any:
    return features(1), heard(1)


def sessions() -> Sessions:
    return Sessions(StandIn(), CLIP, Limits(1, 1 << 30, idle_timeout_s=100, give_way_s=50), clock=lambda: 0.0)


def full(folder: Path) -> None:
    table = ClipTable(folder / "clips")
    for clip in ("a", "b"):
        table.admit(clip, limit=1, timeout_s=1)


def hopeless(folder: Path) -> None:
    table = ClipTable(folder / "clips")
    table._head["service_s"] = 100
    for clip in ("a", "b"):
        table.admit(clip, limit=9, timeout_s=1)


def bad(folder: Path) -> None:
    read_prompts(points((5, 6, 1), frame=99), CLIP)


def ended(folder: Path) -> None:
    kept = sessions()
    kept.open(b"1", "me", encode, {})
    kept.end(b"1")
    kept.round(b"1", {})


def crowded(folder: Path) -> None:
    kept = sessions()
    for key in (b"1", b"2"):
        kept.open(key, "me", encode, {})


WHAT_HAPPENS: dict[Reason, tuple[Callable[[Path], None] | None, type[AuralServeError]]] = {
    Reason.QUEUE_FULL: (full, ServerUnavailable),
    Reason.DEADLINE: (hopeless, ServerUnavailable),
    # Three that no exception of ours stands for: the adapter says them itself.
    Reason.EXPIRED: (None, ServerUnavailable),
    Reason.CANCELLED: (None, ServerUnavailable),
    Reason.FAULT: (None, ServerFault),
    Reason.BAD_REQUEST: (bad, BadInput),
    Reason.SESSION_ENDED: (ended, SessionEnded),
    Reason.SESSION_LIMIT: (crowded, ServerUnavailable),
}


def crossed(adapter: ModuleType, reason: Reason, folder: Path) -> AuralServeError:
    """What a client makes of it."""
    happens, _ = WHAT_HAPPENS[reason]
    if happens is not None:
        with pytest.raises(Refusal) as refusal:
            happens(folder)
        assert refusal.value.reason is reason
    error = adapter.refuse_request(reason, "what nobody reads").error
    status = {"INVALID_ARG": "INVALID_ARGUMENT"}.get(error.code, error.code)
    said: Any = InferenceServerException(f"in ensemble 'auralsam2', {error.message}", status=f"StatusCode.{status}")
    return wire_errors.translate(said, url="here", timeout_s=1)


@pytest.fixture
def other_words(adapter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(adapter, "error_text", lambda reason, message: contract.error_text(reason, OTHER_WORDS))
    monkeypatch.setattr(wire_errors, "_phrase", lambda *arguments: OTHER_WORDS)
    return adapter


@pytest.mark.parametrize("reason", WHAT_HAPPENS)
def test_a_caller_tells_them_apart(reason: Reason, other_words: ModuleType, tmp_path: Path) -> None:
    error = crossed(other_words, reason, tmp_path)
    assert type(error) is WHAT_HAPPENS[reason][1]
    assert error.code is reason
    assert str(error) == OTHER_WORDS


@pytest.mark.parametrize("reason", WHAT_HAPPENS)
def test_the_supervisor_restarts_a_server_that_is_broken_and_leaves_a_busy_one(
    reason: Reason, other_words: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = Canary(Launcher(ServerConfig(build=tmp_path), sink=lambda line: None), lambda line: None)
    monkeypatch.setattr(Canary, "_successes", lambda self: None)
    monkeypatch.setattr(canary, "_progress_seen", float("inf"))
    found = canary._judge(crossed(other_words, reason, tmp_path))
    canary.close()
    # Callers may hold all sessions, so that the service's own has to wait.
    assert (found is None) == (reason in {*BUSY, Reason.SESSION_LIMIT})
    assert found is None or found[0] == "canary"


def test_people_read_the_words_alone(adapter: ModuleType) -> None:
    error: Any = adapter.refuse_request(Reason.QUEUE_FULL, "vggish: the queue is full: 8 clips are in flight.").error
    said: Any = InferenceServerException(error.message, status="StatusCode.UNAVAILABLE")
    found = str(wire_errors.translate(said, url="here", timeout_s=1))
    assert found.startswith("The server at here has no room for this call: vggish: the queue is full: 8 clips")
    assert "[" not in found


def test_every_reason_of_the_contract_is_known_to_the_client() -> None:
    assert set(wire_errors._OF_REASON) == set(Reason)
    assert {*WHAT_HAPPENS, Reason.UNREADY} == set(Reason)
    assert np.all([issubclass(kind, AuralServeError) for kind in wire_errors._OF_REASON.values()])

"""The canary's turns: one path after the other, what each comes to, and the session that gives way. No server."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from auralsam2_client.calls.wire import Arrays
from auralsam2_client.errors import AuralServeError, ServerTimeout
from service.builds.golden_answer import WrongAnswer
from service.monitoring.metrics import ModelCounters
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.supervision import canary as module
from service.supervision.canary import MISSED_TURNS, NONE, RIGHT, WRONG, Canary


class Request:
    """A golden request whose right answer is 1."""

    def __init__(self, path: str) -> None:
        self.path, self.in_session = path, path == "session"

    def check(self, replies: list[Arrays]) -> float:
        if replies[0]["X"] != 1:
            raise WrongAnswer(self.path, f"Golden clip by {self.path}: X is off")
        return 0.0


class Turns:
    """A canary that is always due, and whose calls end at once: with `answers[path]`, a number or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.room, self.answered, self.others = 0.0, True, 0, 0
        self.answers: dict[str, Any] = {"audio": 1, "box": 1, "session": 1}
        self.counts = Counter[tuple[str, str]]()
        self.asked: list[str] = []
        monkeypatch.setattr("service.supervision.canary.time.monotonic", lambda: self.now)
        monkeypatch.setattr(module, "GoldenCall", self.call)
        monkeypatch.setattr(module, "fetch", self.fetch)
        monkeypatch.setattr(module, "is_full", lambda pid: False)
        self.launch = SimpleNamespace(
            config=ServerConfig(Path("/somewhere/build"), canary_timeout_s=20),
            golden=SimpleNamespace(requests=[Request(path) for path in self.answers]),
            digests={},
            first_digest="",
            golden_duration_s=0.1,
            pid=1,
            secret="",
        )
        self.canary = Canary(cast(Launcher, self.launch), lambda text: None, self.count)
        monkeypatch.setattr(self.canary, "_has_room", lambda: self.room)

    def fetch(self, url: str, timeout_s: float) -> dict[str, ModelCounters]:
        """Between two looks at the page `others` clips of callers are answered."""
        self.answered += self.others
        return {"auralsam2": ModelCounters(success=self.answered)}

    def count(self, path: str, result: str) -> None:
        self.counts[path, result] += 1

    def call(self, request: Request, client: object, timeout_s: float) -> Any:
        self.asked.append(request.path)
        answer = self.answers[request.path]

        def replies() -> list[Arrays]:
            if isinstance(answer, AuralServeError):
                raise answer
            return [{"X": np.array(answer)}]

        return SimpleNamespace(done=lambda within_s: True, replies=replies, request=request, duration_s=0.1)

    def turn(self) -> tuple[str, str] | None:
        self.now += 10
        assert self.canary.look() is None
        return self.canary.look()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    made = Turns(monkeypatch)
    yield made
    made.canary.close()


def test_paths_are_asked_in_turn_and_counted(turns: Turns) -> None:
    assert [turns.turn() for _ in range(6)] == [None] * 6
    assert turns.asked == ["audio", "box", "session"] * 2
    assert turns.counts == {(path, RIGHT): 2 for path in turns.answers}


def test_a_wrong_answer_is_told_by_its_path_the_first_time_by_the_build_and_later_by_the_first(turns: Turns) -> None:
    turns.answers["box"] = 2
    turns.turn()
    assert turns.turn() == ("answer", "Golden clip by box: X is off")
    turns.answers |= {"box": 1, "audio": 1.0 + 1e-12}
    turns.turn()
    kind, reason = turns.turn() or ("", "")
    assert kind == "answer"
    assert "the golden clip's answer by audio changed" in reason
    assert turns.counts["box", WRONG] == turns.counts["audio", WRONG] == 1


def test_a_session_gives_way_to_those_of_callers(turns: Turns) -> None:
    turns.room = False
    for _ in range(4):
        turns.turn()
    assert turns.asked == ["audio", "box"] * 2


def test_where_one_path_is_all_that_is_asked_a_busy_server_has_its_patience(turns: Turns) -> None:
    """As of builds without prompts: none of the others can be answered in its place."""
    del turns.launch.golden.requests[1:]
    turns.answers["audio"], turns.others = ServerTimeout("no answer in 20 s"), 1
    assert [turns.turn() for _ in range(2 * MISSED_TURNS)] == [None] * 2 * MISSED_TURNS


@pytest.mark.parametrize("hung", [("box",), ("box", "session")])
def test_paths_that_hang_are_told_from_a_busy_server(turns: Turns, hung: tuple[str, ...]) -> None:
    """One, or all that share a graph, while callers are answered by another."""
    turns.answers |= dict.fromkeys(hung, ServerTimeout("no answer in 20 s"))
    turns.others = 1
    found = []
    for _ in range(3 * MISSED_TURNS):
        found.append(turns.turn())
        if found[-1] is not None:
            break
    assert found[:-1] == [None] * (len(found) - 1)
    assert found[-1] == ("canary", f"the golden clip by box got no answer in {MISSED_TURNS} turns, others did")
    assert turns.asked.count("box") == MISSED_TURNS
    assert turns.counts["box", NONE] == 1

"""The checks of the service, with stand-ins for server, callers and client."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loadtests.gpu.checks import service_checks
from loadtests.gpu.checks.check import Place
from loadtests.gpu.rows.callers import Calls


@contextmanager
def serve(_: Place) -> Iterator[Any]:
    yield SimpleNamespace(config=SimpleNamespace(grpc_url="127.0.0.1:1", build=Path("build")))


def soak(place: Place, held: list[float], *, failures: tuple[str, ...] = (), iou: float = 1.0) -> None:
    clock, left = [0.0], list(held)

    def call(url: str, build: Path, callers: int, seconds: float) -> list[Calls]:
        clock[0] += seconds
        return [Calls(((0.0, 1.0), (1.0, 2.0)), failures, iou)] * callers

    def measure(_: Any) -> dict[str, float]:
        return {"server": left.pop(0) * 2**20}

    service_checks._soak(serve, 60.0 * len(held), place, call=call, measure=measure, clock=lambda: clock[0])
    assert left == []


def test_a_soak_holds_answers_and_memory(place: Place) -> None:
    soak(place, [1000, 1100, 1010])
    with pytest.raises(AssertionError, match="memory of the server grew by 200 MiB in 180 s"):
        soak(place, [1000, 1100, 1200])
    with pytest.raises(AssertionError, match="4 calls failed, the first with ServerTimeout: late"):
        soak(place, [1000], failures=("ServerTimeout: late",))
    with pytest.raises(AssertionError, match=r"agree with the golden ones by 0\.9000"):
        soak(place, [1000], iou=0.9)
    assert service_checks.soak_checks(0) == []


def answer(logits: float | np.ndarray[Any, Any]) -> Any:
    return SimpleNamespace(mask_logits=np.broadcast_to(np.float32(1.0) * logits, (2, 4, 4)))


class Answers:
    """A client, and its session, that answer with the same logits, but for those that are given for one of them."""

    def __init__(self, **other: Any) -> None:
        self._other, self._rounds = other, 0

    def segment(self, *_: Any, **__: Any) -> Any:
        return answer(self._other.get("segment", 1.0))

    def session(self, *_: Any, **__: Any) -> Any:
        self._rounds += 1
        own = self._other.get(f"session_{self._rounds}", 1.0)

        @contextmanager
        def opened() -> Iterator[Any]:
            yield SimpleNamespace(segment=lambda *_: answer(own), click=lambda *_: answer(own))

        return opened()


GOLDEN: Any = SimpleNamespace(
    frames=np.zeros((2, 16, 16, 3), np.uint8),
    audio=np.zeros((2, 15600, 2), np.float32),
    reference={"CANDIDATE_LOGITS": np.ones((2, 3, 4, 4), np.float32)},
)
LEFT_HALF = np.tile(np.array([1.0, 1.0, -1.0, -1.0], np.float32), (2, 4, 1))


def test_answers_to_prompts_are_compared() -> None:
    service_checks.check_prompts(Answers(), GOLDEN)  # type: ignore[arg-type]
    for wrong, words in (
        ({"segment": np.nan}, "a point: logits are not finite"),
        ({"segment": -1.0}, "a point: every mask is empty"),
        ({"session_2": LEFT_HALF}, r"round 1 of a session agrees with the same round of another by 0\.5000"),
        ({"session_1": LEFT_HALF, "session_2": LEFT_HALF}, "round 1 of a session agrees with one request"),
    ):
        with pytest.raises(AssertionError, match=words):
            service_checks.check_prompts(Answers(**wrong), GOLDEN)  # type: ignore[arg-type]


def test_answers_by_sound_are_compared() -> None:
    logits = [np.ones((2, 3, 4, 4), np.float32)] * 2

    def client(*answers: Any) -> Any:
        left = list(answers)
        return SimpleNamespace(infer=lambda *_, **__: {"CANDIDATE_LOGITS": left.pop(0)})

    service_checks.check_sound(client(*logits), GOLDEN)
    with pytest.raises(AssertionError, match=r"by sound agree with the network by 0\.0000"):
        service_checks.check_sound(client(-logits[0], -logits[1]), GOLDEN)
    with pytest.raises(AssertionError, match="CANDIDATE_LOGITS of the same clip differs"):
        service_checks.check_sound(client(logits[0], 2 * logits[1]), GOLDEN)


def test_memory_of_a_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_checks, "smi", lambda query: {"memory.used": "2048"})
    launcher: Any = SimpleNamespace(pid=os.getpid(), stage_pids=[])
    alone = service_checks.held_bytes(launcher)
    assert alone["card"] == 2048 * 2**20
    assert alone["server"] > 1e6
    launcher.stage_pids.append(os.getpid())
    assert service_checks.held_bytes(launcher)["server"] > 1.5 * alone["server"]

"""A session at the client, without a server: what each round sends, and what is refused before it is sent."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import prepare_clip
from auralsam2_client.calls.session import AsyncSession, Rounds, Session
from auralsam2_client.calls.wire import Arrays, Call, ClipShape
from auralsam2_client.calls.wire_errors import translate
from auralsam2_client.contract import RESULTS, USUAL_RESULTS
from auralsam2_client.errors import BadInput, ConfigError, ServerTimeout, ServerUnavailable, SessionEnded
from auralsam2_client.prompts import Prompts
from tests.service.toy import build_folder as toy

T, S = toy.T, toy.S
SHAPE = ClipShape(T, S, takes_prompts=True)
FRAMES, AUDIO = toy.clip()
CLICK = Prompts(points=[(3, 4, "+")])
GIVEN_ID = b"0123456789abcdef" * 2


class Server:
    """Stands for a client's way to the server: notes the calls, and answers or raises."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failure: Exception | None = None
        self.shape = SHAPE

    def __call__(self, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        self.calls.append(make(self.shape))
        if self.failure is not None:
            raise self.failure
        texts = {"PROMPT_MODE": b"audio+points", "SESSION_ID": GIVEN_ID}
        answer = dict(toy.expected(FRAMES, AUDIO)) | {
            name: np.array([text], np.object_) for name, text in texts.items()
        }
        return {name: answer[name] for name in self.calls[-1].outputs}

    async def later(self, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        return self(make, timeout_s)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def session(server: Server) -> Session:
    return Session(server, Rounds(FRAMES, AUDIO, True, "mean"), None)


def names(call: Call) -> set[str]:
    return set(call.tensors)


def test_the_clip_goes_with_the_first_round_alone(server: Server, session: Session) -> None:
    with session:
        first = session.segment()
        second = session.click(3, 4)
    assert (first.mode, second.iou.shape) == ("audio+points", (T, 3))
    start, click, end = server.calls
    assert names(start) == {"FRAMES", "AUDIO", "STEP", "OPENING"}
    assert names(click) == {"POINT_COORDS", "POINT_LABELS", "STEP", "SESSION_ID"}
    assert names(end) == {"END", "SESSION_ID"}
    assert "SESSION_ID" in start.outputs
    assert click.tensors["SESSION_ID"].tolist() == end.tensors["SESSION_ID"].tolist() == [GIVEN_ID]
    assert end.tensors["END"].tolist() == [True]
    assert [call.tensors["STEP"].tolist() for call in (start, click)] == [[0], [1]]


def test_a_click_for_its_frame_alone_says_so_and_propagate_does_not(server: Server, session: Session) -> None:
    session.segment()
    session.click(3, 4, propagate=False)
    session.propagate()
    _, click, propagate = server.calls
    assert names(click) == {"POINT_COORDS", "POINT_LABELS", "STEP", "PROPAGATE", "SESSION_ID"}
    assert click.tensors["PROPAGATE"].tolist() == [0]
    assert names(propagate) == {"STEP", "SESSION_ID"}


def test_a_round_without_an_answer_is_sent_again_as_the_same_round(server: Server, session: Session) -> None:
    server.failure = ServerTimeout("late")
    with pytest.raises(ServerTimeout):
        session.segment(CLICK)
    server.failure = None
    session.segment(CLICK)
    server.failure = ServerUnavailable("restarting")
    with pytest.raises(ServerUnavailable):
        session.click(5, 5)
    server.failure = None
    session.click(5, 5)
    lost_start, start, lost, again = server.calls
    assert names(lost_start) == names(start)
    assert lost_start.tensors["OPENING"].tolist() == start.tensors["OPENING"].tolist()
    assert lost.tensors["STEP"].tolist() == again.tensors["STEP"].tolist() == [1]


def test_after_its_end_nothing_is_sent(server: Server, session: Session) -> None:
    session.segment()
    session.close()
    session.close()
    with pytest.raises(SessionEnded, match=r"has ended. Open a new one with client.session"):
        session.click(1, 1)
    assert len(server.calls) == 2


def test_a_session_that_was_never_used_sends_nothing(server: Server, session: Session) -> None:
    with session:
        pass
    assert not server.calls


def test_an_end_that_does_not_arrive_is_no_error(server: Server, session: Session) -> None:
    session.segment()
    server.failure = ServerUnavailable("gone")
    session.close()


@pytest.mark.parametrize("prompts", [Prompts(points=[(S, 1, "+")]), Prompts(points=[(1, 1, "+")], frame=T), Prompts()])
@pytest.mark.parametrize("later", [False, True])
def test_bad_prompts_are_refused_before_they_are_sent(
    server: Server, session: Session, prompts: Prompts, later: bool
) -> None:
    if later:
        session.segment()
    before = len(server.calls)
    with pytest.raises(BadInput):
        session.segment(prompts)
    assert len(server.calls) == before
    session.click(1, 1)
    assert server.calls[-1].tensors["STEP"].tolist() == [1 if later else 0]


def test_a_build_without_prompts_has_no_sessions(server: Server, session: Session) -> None:
    server.shape = ClipShape(T, S)
    with pytest.raises(ConfigError, match="takes no prompts and has no sessions"):
        session.segment()


def test_two_sessions_have_two_openings(server: Server) -> None:
    for _ in range(2):
        Session(server, Rounds(FRAMES, AUDIO, True, "mean"), None).segment()
    first, second = server.calls
    assert first.tensors["OPENING"].tolist() != second.tensors["OPENING"].tolist()


def test_without_sound_and_with_another_rule(server: Server) -> None:
    session = Session(server, Rounds(FRAMES, None, False, "mean"), None)
    with pytest.raises(BadInput, match="nothing says what to segment"):
        session.segment()
    session.segment(CLICK)
    session.segment(CLICK, combination="union")
    first, second = server.calls
    assert not first.tensors["AUDIO"].any()
    assert not first.tensors["USE_AUDIO"].any()
    assert second.tensors["COMBINATION"].tolist() == [2]
    with pytest.raises(BadInput, match="combination"):
        Rounds(FRAMES, AUDIO, True, "max")


def test_the_same_in_asyncio(server: Server) -> None:
    async def main() -> None:
        async with AsyncSession(server.later, Rounds(FRAMES, AUDIO, True, "mean"), None) as session:
            await session.segment()
            assert (await session.click(3, 4, "-", frame=1)).mode == "audio+points"

    asyncio.run(main())
    start, click, end = server.calls
    assert names(start) == {"FRAMES", "AUDIO", "STEP", "OPENING"}
    assert click.tensors["PROMPT_FRAME"].tolist() == [1]
    assert end.tensors["END"].tolist() == [True]


def test_sound_alone_is_sent_as_it_always_was() -> None:
    clip = prepare_clip(FRAMES, AUDIO, SHAPE, None, True, "mean")
    assert (clip.prompts, clip.outputs) == ({}, USUAL_RESULTS)
    assert "PROMPT_MODE" not in RESULTS
    assert prepare_clip(FRAMES, AUDIO, SHAPE, None, True, "union").prompts == {}


def test_no_audio_needs_use_audio_false() -> None:
    with pytest.raises(BadInput, match="audio is None; give the windows"):
        prepare_clip(FRAMES, None, SHAPE, CLICK, True, "mean")


def test_a_session_that_the_server_does_not_know_has_its_own_error() -> None:
    text = "[session_ended] This session has ended: nobody used it for 600 s. Open a new session"
    error: Any = InferenceServerException(text, status="StatusCode.INVALID_ARGUMENT")
    assert isinstance(translate(error, url="here", timeout_s=1), SessionEnded)
    other: Any = InferenceServerException("[bad_request] POINT_LABELS is 4", status="StatusCode.INVALID_ARGUMENT")
    assert type(translate(other, url="here", timeout_s=1)) is BadInput


@pytest.mark.parametrize("way", ["a clip", "a session"])
def test_the_sound_of_a_clip_is_looked_through_once(
    way: str, server: Server, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    isfinite = np.isfinite

    def noted(values: Any, *arguments: Any, **named: Any) -> Any:
        seen.append(np.shape(values))
        return isfinite(values, *arguments, **named)

    monkeypatch.setattr(np, "isfinite", noted)
    if way == "a session":
        session.segment()
    else:
        with Client() as client:
            monkeypatch.setattr(client, "_call", lambda model, make, timeout_s: server(make, timeout_s))
            client.segment(FRAMES, AUDIO)
    assert seen == [AUDIO.shape]

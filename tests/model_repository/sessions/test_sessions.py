"""Many sessions: none sees another's clip or marks, caps and time-outs hold, and what ends gives its memory back."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auralsam2_client.contract import MAX_POINTS, PROMPT_MODE
from model_repository.stage_runtime.engine.refusals import BadRequest, NoRoom, SessionEnded
from model_repository.stage_runtime.prompts import reading
from model_repository.stage_runtime.prompts.reading import read_round
from model_repository.stage_runtime.sessions.rounds import Session
from model_repository.stage_runtime.sessions.sessions import Limits, Sessions
from tests.model_repository.prompted_stand_in import CLIP, StandIn, T, features, heard, points

LIMITS = Limits(max_sessions=3, max_bytes=1 << 30, idle_timeout_s=100, give_way_s=10)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sessions_of(clock: Clock, **changed: Any) -> Sessions:
    return Sessions(StandIn(), CLIP, Limits(**{**vars(LIMITS), **changed}), clock)


def name_of(key: int) -> bytes:
    return str(key).encode()


def encode(number: float) -> Any:
    return lambda sound: (features(number), heard(number) if sound else None)


ROUND = st.tuples(st.integers(0, T - 1), st.integers(0, 31), st.integers(0, 31), st.integers(0, 1))
STEPS = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.just("start"), st.just("end"), ROUND)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_interleaved_sessions_answer_as_if_each_were_alone(steps: list[Any]) -> None:
    together = sessions_of(Clock())
    alone: dict[int, Session] = {}
    clips = 0
    for key, step in steps:
        if step == "start":
            clips += 1
            found = together.open(name_of(key), "me", encode(clips), {})
            alone[key] = Session(features(clips), heard(clips), StandIn(), CLIP)
            wanted = alone[key].round(read_round({}, CLIP))
        elif step == "end":
            together.end(name_of(key))
            alone.pop(key, None)
            continue
        else:
            frame, x, y, label = step
            tensors = points((x, y, label), frame=frame)
            if key not in alone:
                with pytest.raises(SessionEnded, match="This session has ended"):
                    together.round(name_of(key), tensors)
                continue
            if len(_labels(alone[key], frame)) == MAX_POINTS:
                continue
            found, wanted = together.round(name_of(key), tensors), alone[key].round(read_round(tensors, CLIP))
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value)
    assert len(together) == len(alone)


def _labels(session: Session, frame: int) -> list[int]:
    prompt = session._prompts.get(frame)
    return [] if prompt is None else prompt.labels.tolist()


def test_a_session_that_never_was_or_has_ended_is_told_so(clock: Clock) -> None:
    sessions = sessions_of(clock)
    with pytest.raises(
        SessionEnded, match=r"has ended: it never was, or ended long ago. Open a new session with FRAMES"
    ):
        sessions.round(b"7", points((1, 1, 1)))
    sessions.open(b"7", "me", encode(1), {})
    sessions.end(b"7")
    sessions.end(b"7")
    with pytest.raises(SessionEnded, match="has ended: its client ended it"):
        sessions.round(b"7", points((1, 1, 1)))


def test_an_idle_session_ends_and_says_why(clock: Clock) -> None:
    sessions = sessions_of(clock)
    sessions.open(b"1", "me", encode(1), {})
    clock.now = 60
    sessions.round(b"1", points((1, 1, 1)))
    clock.now = 159
    assert sessions.sweep() == 0
    clock.now = 160
    # Also when nobody swept in time.
    with pytest.raises(SessionEnded, match="has ended: nobody used it for 100 s"):
        sessions.round(b"1", points((1, 1, 1)))
    assert len(sessions) == sessions.num_bytes == 0


def test_the_least_recently_used_idle_session_makes_room(clock: Clock) -> None:
    sessions = sessions_of(clock)
    for key in (1, 2, 3):
        clock.now = key
        sessions.open(name_of(key), "me", encode(key), {})
    clock.now = 12
    sessions.round(b"1", {})
    sessions.open(b"4", "me", encode(4), {})
    assert len(sessions) == 3
    with pytest.raises(SessionEnded, match="made room for another after 10 s without a round"):
        sessions.round(b"2", {})
    for key in (1, 3, 4):
        sessions.round(name_of(key), {})


def test_sessions_in_use_do_not_make_room_and_the_new_one_costs_no_work(clock: Clock) -> None:
    sessions = sessions_of(clock)
    for key in (1, 2, 3):
        sessions.open(name_of(key), "me", encode(key), {})
    clock.now = 9.9
    with pytest.raises(NoRoom, match=r"3 sessions hold .* used in the last 10 s; at most 3 sessions .* pause"):
        sessions.open(b"4", "me", lambda sound: pytest.fail("encoded in vain"), {})
    for key in (1, 2, 3):
        sessions.round(name_of(key), {})
    # Its own key is no newcomer.
    sessions.open(b"3", "me", encode(9), {})


def test_one_caller_cannot_keep_all_sessions_from_another(clock: Clock) -> None:
    """The greedy one's least used go, down to a half of all; those within a share stay, whoever asks."""
    sessions = sessions_of(clock, max_sessions=4)
    for key in (1, 2, 3, 4):
        sessions.open(name_of(key), "greedy", encode(key), {})
    sessions.round(b"1", {})
    with pytest.raises(NoRoom):
        sessions.open(b"5", "greedy", encode(5), {})
    for key in (6, 7):
        sessions.open(name_of(key), "good", encode(key), {})
    for key in (2, 3):
        with pytest.raises(SessionEnded, match="made room for another caller; yours were more than your share"):
            sessions.round(name_of(key), {})
    for key, caller in ((8, "good"), (9, "greedy")):
        with pytest.raises(NoRoom):
            sessions.open(name_of(key), caller, encode(key), {})
    for key in (1, 4, 6, 7):
        sessions.round(name_of(key), {})


def test_the_cap_on_bytes_holds(clock: Clock) -> None:
    sessions = sessions_of(clock, max_sessions=1000)
    sessions.open(b"1", "me", encode(1), {})
    one = sessions.num_bytes
    assert one > sum(value.nbytes for value in features(1).values())
    capped = sessions_of(clock, max_sessions=1000, max_bytes=2 * one)
    capped.open(b"1", "me", encode(1), {})
    capped.open(b"2", "me", encode(2), {})
    with pytest.raises(NoRoom):
        capped.open(b"3", "me", encode(3), {})
    clock.now = 10
    capped.open(b"3", "me", encode(3), {})
    assert (len(capped), capped.num_bytes) == (2, 2 * one)
    with pytest.raises(BadRequest, match=r"holds 0 MiB, and all sessions together .* AURALSAM2_MAX_SESSION_BYTES"):
        sessions_of(clock, max_bytes=one - 1).open(b"1", "me", encode(1), {})


@pytest.mark.parametrize("how", ["end", "idle", "room", "replaced"])
def test_what_ends_gives_its_memory_back(clock: Clock, how: str) -> None:
    sessions = sessions_of(clock, max_sessions=1)
    encoded = [(features(1), heard(1))]
    watched = [weakref.ref(value) for each in encoded[0] for value in each.values()]
    sessions.open(b"1", "me", lambda sound: encoded.pop(), {})
    sessions.round(b"1", points((1, 1, 1)))
    assert all(reference() is not None for reference in watched)
    clock.now = 1000 if how == "idle" else 50
    {
        "end": lambda: sessions.end(b"1"),
        "idle": sessions.sweep,
        "room": lambda: sessions.open(b"2", "me", encode(2), {}),
        "replaced": lambda: sessions.open(b"1", "me", encode(2), {}),
    }[how]()
    gc.collect()
    assert [reference() for reference in watched] == [None] * len(watched)


@pytest.mark.parametrize(
    "tensors", [points((1, 99, 1)), {"USE_AUDIO": np.array([False])}, {"COMBINATION": np.array([9], np.int32)}]
)
def test_bad_prompts_cost_no_encoding_and_leave_no_session(clock: Clock, tensors: dict[str, Any]) -> None:
    sessions = sessions_of(clock)
    with pytest.raises(BadRequest):
        sessions.open(b"1", "me", lambda sound: pytest.fail("encoded in vain"), tensors)
    assert len(sessions) == 0


def test_a_clip_that_fails_leaves_no_session(clock: Clock) -> None:
    sessions = sessions_of(clock)

    def broken(sound: bool) -> Any:
        raise RuntimeError("hiera")

    with pytest.raises(RuntimeError, match="hiera"):
        sessions.open(b"1", "me", broken, {})
    with pytest.raises(SessionEnded, match="has ended"):
        sessions.round(b"1", {})


def test_without_sound_nothing_of_it_is_asked_for(clock: Clock) -> None:
    sessions = sessions_of(clock)
    asked: list[bool] = []

    def note(sound: bool) -> Any:
        asked.append(sound)
        return features(1), None

    answer = sessions.open(b"1", "me", note, points((1, 1, 1)) | {"USE_AUDIO": np.array([False])})
    assert asked == [False]
    assert bytes(answer[PROMPT_MODE][0]) == b"points"


def test_the_tensors_of_a_request_are_read_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    numbered = reading._check_form

    def noted(name: str, value: Any, clip: Any) -> None:
        read.append(1)
        numbered(name, value, clip)

    monkeypatch.setattr(reading, "_check_form", noted)
    kept = sessions_of(clock)
    for number, ask in enumerate((lambda t: kept.open(b"1", "me", encode(1), t), lambda t: kept.round(b"1", t))):
        tensors = points((1, 1, 1), frame=0, step=number)
        ask(tensors)
        assert len(read) == len(tensors)
        read.clear()

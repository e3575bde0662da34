"""Sessions on the real server: a clip is encoded once, a round answers as a whole clip does, none disturbs another."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.wire_errors import translate
from auralsam2_client.contract import Reason
from auralsam2_client.errors import BadInput, ServerTimeout, ServerUnavailable, SessionEnded
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts
from service.monitoring.metrics import in_flight
from service.server.serving import serve_build
from tests.service.marks import CLIP, FRAME, GOOD, LOUD, SILENT, box_of, middle_of, raw, same
from tests.service.toy.running import eventually, settled_counters


def test_a_session_answers_as_clips_sent_whole_and_encodes_once(
    served_compact: Any, client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    box, (x, y) = box_of(truth[LOUD]), middle_of(truth[LOUD])
    before = settled_counters(served_compact.config.metrics_url)
    with client.session(media.frames, heard) as session:
        first = session.segment()
        second = session.segment(Prompts(box=box, frame=FRAME))
        third = session.click(x, y, frame=FRAME)
        fourth = session.segment(combination="union")
    after = settled_counters(served_compact.config.metrics_url)
    for stage in ("vggish", "hiera", "aural_fuser", "sam2_decoder"):
        assert after[stage].success == before[stage].success + 1
    assert after["auralsam2_session"].success == before["auralsam2_session"].success + 5
    assert in_flight(after) == 0
    assert [each.mode for each in (first, second, third)] == ["audio", "audio+box", "audio+points+box"]
    assert same(first, client.segment(media.frames, heard))
    assert same(second, client.segment(media.frames, heard, prompts=Prompts(box=box, frame=FRAME)))
    assert not same(third, second)
    assert not same(fourth, third)
    with pytest.raises(SessionEnded):
        session.click(x, y)


def test_a_click_for_its_frame_alone_and_then_tracked_ends_where_a_tracked_click_does(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    x, y = middle_of(truth[LOUD])
    with client.session(media.frames, heard) as session:
        by_sound = session.segment()
        quick = session.click(x, y, frame=FRAME, propagate=False)
        tracked = session.propagate()
    assert same(tracked, client.segment(media.frames, heard, prompts=Prompts(points=[(x, y, "+")], frame=FRAME)))
    assert quick.mode == tracked.mode == "audio+points"
    others = [frame for frame in range(len(media.frames)) if frame != FRAME]
    np.testing.assert_array_equal(quick.mask_logits[FRAME], tracked.mask_logits[FRAME])
    np.testing.assert_array_equal(quick.mask_logits[others], by_sound.mask_logits[others])
    assert not np.array_equal(tracked.mask_logits[others], by_sound.mask_logits[others])


def test_a_silent_object_is_marked_and_then_corrected(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    """By masks, which stand for themselves, so that the test asks nothing of the weights."""
    with client.session(media.frames, heard, combination="union") as session:
        by_sound = session.segment().masks()[FRAME]
        conflicting = session.segment(Prompts(mask=truth[SILENT], frame=FRAME)).masks()[FRAME]
        corrected = session.segment(Prompts(mask=truth[LOUD], frame=FRAME)).masks()[FRAME]
        clicked = session.click(*middle_of(truth[SILENT]), "-", frame=FRAME)
    assert conflicting[truth[SILENT]].mean() > 0.9 > by_sound[truth[SILENT]].mean()
    assert corrected[truth[SILENT]].mean() < 0.1
    assert corrected[truth[LOUD]].mean() > 0.9
    assert clicked.mode == "audio+points", "a click after a mask goes on from what was made of it"


def test_sessions_at_once_do_not_mix(
    served_compact: Any, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    """Three people in turns on three clips, each answered as if alone."""
    clips = [np.roll(media.frames, 40 * number, axis=2) for number in range(3)]
    boxes = [box_of(np.roll(truth[LOUD], 40 * number, axis=1)) for number in range(3)]

    def rounds(number: int) -> list[Callable[[Any], Segmentation]]:
        prompts = Prompts(box=boxes[number], frame=FRAME)
        return [
            lambda session: session.segment(),
            lambda session: session.segment(prompts),
            lambda session: session.click(10 + 30 * number, 200, "-", frame=4),
        ]

    with Client(served_compact.config.grpc_url) as client:
        alone = []
        for number in range(3):
            with client.session(clips[number], heard) as session:
                alone.append([each(session) for each in rounds(number)])
        sessions = [client.session(clip, heard) for clip in clips]
        together: list[list[Segmentation]] = [[], [], []]

        def person(number: int) -> None:
            together[number] += [each(sessions[number]) for each in rounds(number)]

        people = [threading.Thread(target=person, args=(number,)) for number in range(3)]
        for each in people:
            each.start()
        for each in people:
            each.join(60)
        for session in sessions:
            session.close()
    for found, wanted in zip(together, alone, strict=True):
        assert [same(*pair) for pair in zip(found, wanted, strict=True)] == [True] * 3


def test_a_round_that_was_too_late_may_be_sent_again_and_counts_once(
    client: Client, media: Media, heard: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers each round; the caller's time ends before the answer is there, on any machine."""
    send = client._wire.infer

    def lose(*args: Any, **named: Any) -> None:
        send(*args, **named)
        raise triton.InferenceServerException("Deadline Exceeded", status="StatusCode.DEADLINE_EXCEEDED")

    def given_up(ask: Callable[..., Segmentation]) -> None:
        with monkeypatch.context() as lost:
            lost.setattr(client._wire, "infer", lose)
            with pytest.raises(ServerTimeout):
                ask()

    with client.session(media.frames, heard) as usual, client.session(media.frames, heard) as hurried:
        usual.segment()
        usual.click(100, 100, frame=2)
        wanted = usual.click(300, 100, "-", frame=2)
        given_up(hurried.segment)
        hurried.segment()
        for x, label in ((100, "+"), (300, "-")):
            given_up(partial(hurried.click, x, 100, label, frame=2))
            found = hurried.click(x, 100, label, frame=2)
    assert same(found, wanted)


@pytest.mark.asyncio
async def test_a_session_in_asyncio(served_compact: Any, media: Media, heard: NDArray[np.float32]) -> None:
    async with AsyncClient(served_compact.config.grpc_url) as client:
        async with client.session(media.frames, heard) as one, client.session(media.frames, heard) as other:
            first, second = await asyncio.gather(one.segment(), other.segment())
            assert same(first, second)
            assert (await one.click(100, 100, frame=2)).mode == "audio+points"
            assert (await other.segment()).mode == "audio"
        with pytest.raises(SessionEnded):
            await one.click(1, 1)


def test_a_click_for_no_session_is_refused_and_sequence_ids_are_nothing_to_the_server(served_compact: Any) -> None:
    """A text for a number ended the server: it is sent with a session's tensors, and alone."""
    unknown = GOOD | {"SESSION_ID": np.array([b"0" * 32], np.object_)}
    end = {"END": np.array([True])}
    for tensors, kind, code in (
        (unknown, SessionEnded, Reason.SESSION_ENDED),
        (unknown | end, SessionEnded, Reason.SESSION_ENDED),
        (GOOD, BadInput, Reason.BAD_REQUEST),
        (end, BadInput, Reason.BAD_REQUEST),
        (CLIP | {"AUDIO": CLIP["AUDIO"] * np.nan}, BadInput, Reason.BAD_REQUEST),
    ):
        for sequence in ({}, {"sequence_id": "x" * 127, "sequence_start": True}, {"sequence_id": 4242}):
            with pytest.raises(triton.InferenceServerException) as refusal:
                raw(served_compact.config, "auralsam2_session", tensors, **sequence)
            assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
            found = translate(refusal.value, url="here", timeout_s=1)
            assert (type(found), found.code) == (kind, code)
    assert served_compact.launcher.fault() is None


def test_idle_sessions_end_caps_hold_and_one_left_open_does_not_hold_up_a_stop(
    compact_build: Path, media: Media, heard: NDArray[np.float32]
) -> None:
    with (
        serve_build(compact_build, environ={}, max_sessions=2, session_idle_timeout_s=1.5) as launcher,
        Client(launcher.config.grpc_url) as client,
    ):
        sessions = [client.session(media.frames, heard) for _ in range(3)]
        for session in sessions[:2]:
            session.segment()
        with pytest.raises(ServerUnavailable, match=r"at most 2 sessions") as refused:
            sessions[2].segment()
        assert refused.value.code is Reason.SESSION_LIMIT

        def opened() -> bool:
            try:
                return sessions[2].segment().mode == "audio"
            except ServerUnavailable:
                return False

        eventually(opened, within_s=10)
        with pytest.raises(SessionEnded, match=r"nobody used it for 1\.5 s"):
            sessions[0].click(5, 5)
        with pytest.raises(BadInput, match="lies outside the frame"):
            sessions[2].click(5, 5000)
        started = time.monotonic()
        launcher.stop()
        assert time.monotonic() - started < launcher.config.drain_timeout_s / 2

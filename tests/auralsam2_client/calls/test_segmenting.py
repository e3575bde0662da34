"""A whole video with several clips in flight, by a stand-in client: order, bounds, refusals, Ctrl-C. No clock."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.planning import SegmentedClip
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.segmenting import segment_clips, segment_media
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.contract import Reason
from auralsam2_client.errors import BadInput, ServerFault, ServerUnavailable
from auralsam2_client.flow import pace
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts

T, S = 2, 32


def video(num_frames: int) -> Media:
    """Frame i is i everywhere."""
    frames = np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, 12, 16, 3))
    return Media(frames, np.arange(num_frames) / 1.0, 1.0, None, "drawn", float(num_frames))


def answer_to(frames: NDArray[np.uint8], logit: float) -> Segmentation:
    """Masks that are all inside or all outside; an object score that tells the frame."""
    N, height, width = frames.shape[:3]
    iou = np.tile(np.array([0.1, 0.9, 0.5], np.float32), (N, 1))
    score = frames[:, 0, 0, 0].astype(np.float32) / np.float32(8)
    return Segmentation(np.full((N, S // 4, S // 4), logit, np.float32), iou, score, height, width)


Answer = Callable[[int, dict[str, Any]], None]


class StandIn(Client):
    """Answers each clip with its own first pixel; `on_call` gets the clip's number and may raise or wait."""

    def __init__(self, on_call: Answer = lambda number, asked: None, *, retries: int = 0) -> None:
        super().__init__("127.0.0.1:1", timeout_s=60, retries=retries)
        self._shape = ClipShape(T, S, takes_prompts=True)
        self.on_call, self.closed = on_call, threading.Event()
        self.counting = threading.Lock()
        self.inside = self.most = 0
        self.asked: list[int] = []

    def own_channel(self) -> Self:
        return self

    def close(self) -> None:
        self.closed.set()
        super().close()

    def segment(self, frames: NDArray[np.uint8], audio: NDArray[np.float32] | None, **asked: Any) -> Segmentation:
        number = int(frames[0, 0, 0, 0]) // T
        with self.counting:
            self.asked.append(number)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.on_call(number, asked)
        finally:
            with self.counting:
                self.inside -= 1
        return answer_to(frames, 1.0 - 2 * (number % 2))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses after a refusal take no time here, and every test leaves no thread."""
    monkeypatch.setattr(pace, "PAUSE_BASE_S", 0.0)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clips-")]


def no_room(number: int, asked: dict[str, Any]) -> None:
    raise ServerUnavailable("no room", code=Reason.QUEUE_FULL)


def test_frames_come_in_order_with_their_own_answers_however_clips_overtake_each_other() -> None:
    arrived = [threading.Event() for _ in range(5)]

    def overtaken(number: int, asked: dict[str, Any]) -> None:
        arrived[number].set()
        if number % 2 == 0 and number < 4:
            arrived[number + 1].wait()

    progress: list[tuple[int, int]] = []
    client = StandIn(overtaken)
    found = segment_media(client, video(9), progress=lambda done, total: progress.append((done, total)))
    assert [frame.time_s for frame in found.frames] == list(range(9))
    assert [8 * frame.object_score for frame in found.frames] == list(range(9))
    assert [bool(mask.all()) for mask in found.masks()] == [True, True, False, False, True, True, False, False, True]
    assert [frame.best_candidate for frame in found.frames] == [1] * 9
    assert progress == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_as_many_clips_are_in_flight_as_asked_for(in_flight: int) -> None:
    all_in = threading.Barrier(in_flight)

    def together(number: int, asked: dict[str, Any]) -> None:
        all_in.wait()

    client = StandIn(together)
    segment_media(client, video(2 * 6), in_flight=in_flight)
    assert client.most == in_flight


def test_after_a_refusal_fewer_clips_are_in_flight_and_each_is_answered_once() -> None:
    refused: set[int] = set()
    inside_later: list[int] = []

    def refuse_once(number: int, asked: dict[str, Any]) -> None:
        if number == 0 and not refused:
            refused.add(number)
            no_room(number, asked)
        if refused:
            inside_later.append(client.inside)

    client = StandIn(refuse_once)
    found = segment_media(client, video(2 * 4), in_flight=2)
    assert [8 * frame.object_score for frame in found.frames] == list(range(8))
    assert sorted(client.asked) == [0, 0, 1, 2, 3]


def test_a_busy_server_is_asked_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow_refusal(number: int, asked: dict[str, Any]) -> None:
        now[0] += 10
        no_room(number, asked)

    client = StandIn(slow_refusal)
    with pytest.raises(ServerUnavailable) as raised:
        segment_media(client, video(2), timeout_s=30)
    assert raised.value.code is Reason.QUEUE_FULL
    assert client.asked == [0, 0, 0]


def test_an_absent_server_is_asked_as_often_as_the_client_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralsam2_client.flow.deadline.RETRY_BASE_S", 0.0)

    def absent(number: int, asked: dict[str, Any]) -> None:
        raise ServerUnavailable("nobody there")

    client = StandIn(absent, retries=2)
    with pytest.raises(ServerUnavailable):
        segment_media(client, video(2))
    assert client.asked == [0, 0, 0]


@pytest.mark.parametrize("back", [True, False])
def test_a_server_that_answered_before_is_waited_for_until_the_time_is_over(
    back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that restarts: each try is refused at once, six seconds on."""
    monkeypatch.setattr("auralsam2_client.flow.deadline.RETRY_BASE_S", 0.0)
    monkeypatch.setattr("auralsam2_client.flow.deadline.RETRY_CAP_S", 0.0)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def away(number: int, asked: dict[str, Any]) -> None:
        if number and client.asked.count(number) < (4 if back else 100):
            now[0] += 6
            raise ServerUnavailable("nobody there")

    client = StandIn(away, retries=2)
    found: list[float] = []
    try:
        with closing(segment_clips(client, video(2 * 3), timeout_s=60, in_flight=1)) as clips:
            for clip in clips:
                found += [8 * frame.object_score for frame in clip.results]
    except ServerUnavailable:
        assert not back
    # What came before stays, and the rest is in order.
    assert found == (list(range(6)) if back else [0, 1])
    assert client.asked.count(0) == 1


def test_an_error_comes_after_the_clips_before_it() -> None:
    def fail(number: int, asked: dict[str, Any]) -> None:
        if number == 1:
            raise ServerFault("broken")

    got: list[SegmentedClip] = []
    with closing(segment_clips(StandIn(fail), video(2 * 30))) as segmented, pytest.raises(ServerFault, match="broken"):
        got.extend(segmented)
    assert [clip.clip.first for clip in got] == [0]


def test_ctrl_c_ends_calls_that_would_never_end_and_the_threads() -> None:
    def hang(number: int, asked: dict[str, Any]) -> None:
        if number:
            client.closed.wait()
            raise ServerUnavailable("closed", code=Reason.UNREADY)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    client = StandIn(hang)
    with pytest.raises(KeyboardInterrupt):
        segment_media(client, video(2 * 9), progress=interrupt)
    assert client.closed.is_set()


def test_prompts_go_with_their_clip_alone_and_count_its_frames() -> None:
    sent: dict[int, Any] = {}

    def note(number: int, asked: dict[str, Any]) -> None:
        sent[number] = asked["prompts"]

    marked = Prompts(points=[(1.0, 2.0, "+")], frame=3)
    segment_media(StandIn(note), video(6), prompts=marked)
    assert (sent[0], sent[2]) == (None, None)
    assert sent[1].frame == 1
    with pytest.raises(BadInput, match="over one clip of 2"):
        segment_clips(StandIn(), video(6), prompts=marked, use_audio=False)
    with pytest.raises(BadInput, match="whole video"):
        segment_clips(StandIn(), iter([]), prompts=marked)


def test_text_is_said_of_every_clip_and_needs_no_sound() -> None:
    sent: dict[int, Any] = {}

    def note(number: int, asked: dict[str, Any]) -> None:
        sent[number] = asked["text"]

    segment_media(StandIn(note), video(6), text="a star", use_audio=False)
    assert sent == {0: "a star", 1: "a star", 2: "a star"}
    with pytest.raises(BadInput, match="text of 26 words"):
        segment_clips(StandIn(), video(6), text="star " * 26)
    with pytest.raises(BadInput, match="over one clip of 2"):
        segment_clips(StandIn(), video(6), text="?!", use_audio=False)


def test_each_clip_has_its_own_time_which_a_refusal_uses_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left: list[float] = []

    def slow(number: int, asked: dict[str, Any]) -> None:
        left.append(asked["timeout_s"])
        now[0] += 10
        if len(left) == 1:
            no_room(number, asked)

    segment_media(StandIn(slow), video(4), timeout_s=30, in_flight=1)
    assert left == [30, 20, 30]

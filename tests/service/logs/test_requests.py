"""From what each stage says to one event a request, through the real pipe and by hand."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from auralsam2_client.contract import StageRecord, requests_path
from model_repository.stage_runtime.admission.asker import Asker
from model_repository.stage_runtime.admission.request_line import MAX_ID, MAX_RECORD_BYTES, RequestLine
from service.logs.events import Event
from service.logs.request_pipe import RequestPipe, read_record
from service.logs.requests import FORGOTTEN_AFTER_S, GOLDEN_PERIOD_S, MAX_OPEN, Requests

MARK = f"auralsam2_test_pipe_{os.getpid()}_"
HOSTILE = '"}\n{"request": "forged", "stage": "sam2_decoder", "ms": 1, "ends": true}\n'


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.requests = Requests(self.events.append, lambda: self.now)

    def say(self, request: str, stage: str, ms: float, *, key: str | None = None, **more: Any) -> None:
        name = f"key of {request}" if key is None else key
        record: StageRecord = {"key": name, "request": request, "stage": stage, "ms": ms}
        record.update(more)  # type: ignore[typeddict-item]
        self.requests(record)

    def clip(self, request: str, **more: Any) -> None:
        self.say(request, "vggish", 1.0, **more)
        self.say(request, "hiera", 2.0, **more)
        self.say(request, "sam2_decoder", 3.0, ends=True, frames=5, mode="audio", total_ms=7.0, **more)

    @property
    def fields(self) -> list[dict[str, Any]]:
        return [dict(event.fields) for event in self.events]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_clip_is_one_event_with_the_time_of_each_stage(told: Told) -> None:
    told.clip("client-1", caller="10.0.0.7")
    assert told.fields == [
        {
            "request": "client-1",
            "code": "OK",
            "caller": "10.0.0.7",
            "frames": 5,
            "mode": "audio",
            "ms": {"vggish": 1.0, "hiera": 2.0, "sam2_decoder": 3.0, "total": 7.0},
        }
    ]
    words = "client-1  of 10.0.0.7  OK  5 frames by audio  7.0 ms (vggish 1.0, hiera 2.0, sam2_decoder 3.0)"
    assert told.events[0].message == words


def test_a_refusal_says_code_reason_and_stage(told: Told) -> None:
    told.say("client-1", "vggish", 0.0, ends=True, reason="queue_full")
    told.say("client-2", "vggish", 1.0)
    told.say("client-2", "hiera", 0.0, ends=True, reason="bad_request")
    told.say("client-3", "vggish", 0.0, ends=True, reason="fault")
    told.say("client-4", "vggish", 0.0, ends=True, reason="of a later version")
    found = [
        (each["code"], each["reason"], each["stage"], event.level)
        for each, event in zip(told.fields, told.events, strict=True)
    ]
    assert found == [
        ("UNAVAILABLE", "queue_full", "vggish", "warning"),
        ("INVALID_ARGUMENT", "bad_request", "hiera", "warning"),
        ("INTERNAL", "fault", "vggish", "error"),
        ("INTERNAL", "of a later version", "vggish", "warning"),
    ]
    assert told.fields[1]["ms"] == {"vggish": 1.0, "total": 1.0}


def test_requests_of_one_id_are_told_apart(told: Told) -> None:
    for key, ms in (("a", 1.0), ("b", 10.0)):
        told.say("", "vggish", ms, key=key)
    for key, ms in (("b", 20.0), ("a", 2.0)):
        told.say("", "hiera", ms, key=key)
    for key, ms in (("b", 30.0), ("a", 3.0)):
        told.say("", "sam2_decoder", ms, key=key, ends=True)
    assert [each["ms"] for each in told.fields] == [
        {"vggish": 10.0, "hiera": 20.0, "sam2_decoder": 30.0, "total": 60.0},
        {"vggish": 1.0, "hiera": 2.0, "sam2_decoder": 3.0, "total": 6.0},
    ]


def test_a_refusal_before_it_was_let_in_is_told_by_itself(told: Told) -> None:
    for _ in range(2):
        told.say("client-1", "vggish", 0.0, key="", ends=True, reason="queue_full")
    assert [each["reason"] for each in told.fields] == ["queue_full", "queue_full"]


def test_the_first_round_of_a_session_holds_the_stages_and_ends_with_the_session_alone(told: Told) -> None:
    told.say("s-1", "auralsam2_session", 0.0, key="round 1", session=True)
    told.clip("session-s-1", round="round 1", caller="10.0.0.7")
    assert not told.events
    told.say("s-1", "auralsam2_session", 9.0, key="round 1", ends=True, session=True, frames=5, mode="audio")
    told.say("s-1", "auralsam2_session", 4.0, key="round 2", ends=True, session=True, frames=5, mode="audio+points")
    first, second = told.fields
    assert (first["session"], first["request"], first["caller"]) == (True, "s-1", "10.0.0.7")
    assert list(first["ms"]) == ["vggish", "hiera", "sam2_decoder", "auralsam2_session", "total"]
    assert second["ms"] == {"auralsam2_session": 4.0, "total": 4.0}
    assert not told.requests._open
    assert not told.requests._round_of


def test_golden_clips_are_summed_up_for_the_file_and_their_failures_are_not(told: Told) -> None:
    for told.now in (0.0, GOLDEN_PERIOD_S / 2, GOLDEN_PERIOD_S):
        told.clip("golden-1", golden=True)
    (event,) = told.events
    assert (event.name, event.quiet, event.fields) == ("golden", True, {"clips": 3, "mean_ms": 7.0})
    told.say("golden-2", "vggish", 0.0, golden=True, ends=True, reason="fault")
    assert told.fields[-1]["request"] == "golden-2"
    told.clip("golden-3")
    assert told.fields[-1]["request"] == "golden-3"


def test_a_request_whose_end_no_stage_saw_is_told_and_forgotten(told: Told) -> None:
    told.say("client-1", "vggish", 1.0)
    told.now = FORGOTTEN_AFTER_S
    told.clip("client-2")
    assert [(each["request"], each["code"]) for each in told.fields] == [("client-1", "UNKNOWN"), ("client-2", "OK")]
    for number in range(MAX_OPEN + 10):
        told.say(f"direct-{number}", "hiera", 1.0)
    assert len(told.requests._open) <= MAX_OPEN + 1
    assert told.fields[2]["request"] == "direct-0"


@pytest.fixture
def pipe() -> Iterator[tuple[RequestPipe, list[Event]]]:
    events: list[Event] = []
    made = RequestPipe(MARK, events.append)
    yield made, events
    made.close()
    assert not requests_path(MARK).exists()


def test_a_caller_cannot_forge_a_record(pipe: tuple[RequestPipe, list[Event]]) -> None:
    made, events = pipe
    assert requests_path(MARK).stat().st_mode & 0o777 == 0o600
    line = RequestLine("sam2_decoder", requests_path(MARK))
    line.tell("a", Asker(request=HOSTILE + "\x00" * 200), 0.001, {"ends": True, "mode": "audio"})
    made.close()
    (event,) = events
    assert event.fields["request"] == (HOSTILE + "\x00" * 200)[:MAX_ID]


def test_a_stage_never_waits_and_what_was_lost_is_counted() -> None:
    path = requests_path(MARK + "full_")
    os.mkfifo(path)
    try:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        line = RequestLine("vggish", path)
        for _ in range(5000):
            line.tell("a", Asker(request="client-1"), 0.0, {})
        assert line._num_lost > 0
        read = os.read(reader, 1 << 20)
        assert read.endswith(b"\n")
        lost = line._num_lost
        line.tell("b", Asker(request="client-2"), 0.0, {"caller": "x" * MAX_RECORD_BYTES})
        line.tell("c", Asker("10.0.0.7", request="client-3"), 0.0, {})
        assert json.loads(os.read(reader, 1 << 20)) == {
            "key": "c",
            "request": "client-3",
            "stage": "vggish",
            "ms": 0.0,
            "caller": "10.0.0.7",
            "lost": lost + 1,
        }
        os.close(reader)
        line.tell("d", Asker(), 0.0, {})  # nobody reads any more
    finally:
        path.unlink()


def test_without_a_launcher_a_stage_says_nothing() -> None:
    RequestLine("vggish", requests_path(MARK + "none_")).tell("a", Asker(), 0.0, {})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b'{"request": "a", "stage": "b", "ms": 1}',
        b'{"key": "k", "request": "a", "stage": "b"}',
        b'{"key": "k", "request": 1, "stage": "b", "ms": 1}',
        b'{"key": "k", "request": "a", "stage": "b", "ms": 1, "stages": {"c": "d"}}',
        b'{"key": "k", "request": "a", "stage": "b", "ms": 1, "ends": "no"}',
    ],
)
def test_what_is_no_record_is_left_out(line: bytes) -> None:
    assert read_record(line) is None

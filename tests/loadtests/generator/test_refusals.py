"""What a caller meets when the service refuses for overload: a server here refuses as often as it is told to."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.wire import CHANNEL_OPTIONS, ClipShape
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow import deadline
from loadtests.generator.clips import procedural
from loadtests.generator.instant_server import InstantService
from loadtests.generator.modes import MODES
from loadtests.generator.sender import OK, Sender

SHAPE = ClipShape(2, 32)
WORDS = "in ensemble 'auralsam2', [queue_full] vggish: the queue is full: 8 clips are in flight, at most 8 may be."


class FullService(InstantService):
    """Refuses the first `refusals` clips. Keeps the ids that it saw."""

    def __init__(self) -> None:
        super().__init__(SHAPE)
        self.refusals = 0
        self.ids: list[str] = []
        self.timeouts_us: list[int] = []

    def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802
        self.ids.append(request.id)  # type: ignore[attr-defined]
        self.timeouts_us.append(request.parameters["timeout"].int64_param)  # type: ignore[attr-defined]
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, WORDS)  # type: ignore[attr-defined]
        return super().ModelInfer(request, context)


@pytest.fixture
def full() -> Iterator[tuple[FullService, str]]:
    service = FullService()
    server = grpc.server(ThreadPoolExecutor(2), options=CHANNEL_OPTIONS)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None).wait(5)


def test_a_refusal_is_retried_within_the_deadline(full: tuple[FullService, str]) -> None:
    service, url = full
    service.refusals = 2
    clip = procedural(SHAPE, 1)[0]
    with Client(url, retries=3, timeout_s=20) as client:
        client.infer(clip.frames, clip.audio)
    assert len(service.ids) == len(set(service.ids)) == 3
    # Each try tells the server how long the caller will still wait.
    assert service.timeouts_us == sorted(service.timeouts_us, reverse=True)
    assert 0 < service.timeouts_us[-1] <= 20e6


def test_without_retries_the_refusal_is_told_as_overload(full: tuple[FullService, str]) -> None:
    service, url = full
    service.refusals = 1
    clip = procedural(SHAPE, 1)[0]
    with Client(url) as client, pytest.raises(ServerUnavailable, match=r"has no room for this call: .* queue is full"):
        client.infer(clip.frames, clip.audio)
    assert len(service.ids) == 1


def test_a_pause_that_would_outlast_the_deadline_is_not_begun(
    full: tuple[FullService, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = full
    service.refusals = 100
    clip = procedural(SHAPE, 1)[0]
    monkeypatch.setattr(deadline, "RETRY_BASE_S", 60.0)
    monkeypatch.setattr(deadline, "RETRY_CAP_S", 60.0)
    monkeypatch.setattr(deadline.random, "uniform", lambda low, high: high)
    started = time.monotonic()
    with Client(url, retries=10, timeout_s=5) as client, pytest.raises(ServerUnavailable):
        client.infer(clip.frames, clip.audio)
    assert time.monotonic() - started < 30, "a pause is a minute"
    assert len(service.ids) == 1


def test_pauses_grow_and_scatter() -> None:
    rows = [list(deadline.pauses(6)) for _ in range(200)]
    assert all(row[-1] is None for row in rows)
    for attempt in range(6):
        bound = min(deadline.RETRY_CAP_S, deadline.RETRY_BASE_S * 2**attempt)
        pauses = [row[attempt] for row in rows]
        assert max(pauses) <= bound
        assert max(pauses) > 0.8 * bound
        assert min(pauses) < 0.2 * bound


def test_the_generator_says_how_each_request_ended(full: tuple[FullService, str]) -> None:
    service, url = full
    service.refusals = 1
    mode = MODES["audio"]
    sender = Sender(url, mode, [mode.prepare(procedural(SHAPE, 1)[0])], timeout_s=5)
    (first, refusal), (second, none) = sender.send(), sender.send(due_s=time.time() - 3)
    sender.close()
    assert (first.code, second.code) == ("UNAVAILABLE", OK)
    assert isinstance(refusal, ServerUnavailable)
    assert none is None
    assert second.latency_s > 3 > second.answer_s
    assert [first.id, second.id] == service.ids

"""The real server behind the door: right answers, attacks that ended it, and a stop under load."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError, ServerUnavailable
from tests.service.door.running import INFER, SERVICE, ask, needs_nginx
from tests.service.supervision.test_supervisor import Supervised
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually

pytestmark = needs_nginx


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("door") / "build")


@pytest.fixture(scope="module")
def supervised(build: Path) -> Iterator[Supervised]:
    found = Supervised(build, door="on", num_threads=1, golden_at_start="always")
    eventually(lambda: found.supervisor.door is not None and found.supervisor.door.pid)
    yield found
    assert found.stop() == 0


def assert_well(supervised: Supervised, pid: int | None) -> None:
    """The same server, and the right answer."""
    frames, audio = toy.clip(5)
    with Client(supervised.supervisor.config.grpc_url, timeout_s=20) as client:
        answer = client.infer(frames, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"])
    assert supervised.supervisor.server_pid == pid
    assert supervised.num_restarts == 0


def test_the_server_listens_where_the_door_reaches_it_alone(supervised: Supervised) -> None:
    pid = supervised.supervisor.server_pid
    config = supervised.supervisor.config
    listening = [
        connection.laddr
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", config.metrics_port)]
    assert_well(supervised, pid)


def test_streams_that_ended_the_server_do_not_reach_it(supervised: Supervised) -> None:
    """Two refused requests in a stream with this header were a SIGSEGV."""
    pid = supervised.supervisor.server_pid
    refused = service_pb2.ModelInferRequest(model_name="auralsam2").SerializeToString()
    with grpc.insecure_channel(supervised.supervisor.config.grpc_url) as channel:
        for _ in range(10):
            stream = channel.stream_stream(f"{SERVICE}ModelStreamInfer")
            with pytest.raises(grpc.RpcError):
                list(stream(iter([refused, refused]), timeout=10, metadata=[("triton_grpc_error", "true")]))
    assert_well(supervised, pid)


def test_a_compressed_message_takes_no_memory(supervised: Supervised) -> None:
    pid = supervised.supervisor.server_pid
    assert pid is not None
    url = supervised.supervisor.config.grpc_url
    before = psutil.Process(pid).memory_info().rss
    for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert ask(url, INFER, bytes(64 << 20), compression=kind)[0] == "UNIMPLEMENTED"
    assert psutil.Process(pid).memory_info().rss < before + (16 << 20)
    assert_well(supervised, pid)


def test_a_door_that_dies_is_opened_again_and_the_server_stays(supervised: Supervised) -> None:
    door, pid = supervised.supervisor.door, supervised.supervisor.server_pid
    assert door is not None
    before = door.pid
    assert before is not None
    psutil.Process(before).kill()
    eventually(lambda: door.pid not in (None, before) and supervised.supervisor.ready)
    assert_well(supervised, pid)


def test_a_stop_under_load_answers_or_refuses_cleanly(build: Path) -> None:
    """Without a door the server takes calls until its end, and the last get NOT_FOUND."""
    supervised = Supervised(build, door="on", num_threads=1, drain_timeout_s=20, golden_at_start="always")
    url = supervised.supervisor.config.grpc_url
    eventually(lambda: supervised.supervisor.door is not None and supervised.supervisor.door.pid)
    frames, audio = toy.clip(5)
    wanted = toy.expected(frames, audio)["MASK_LOGITS"]
    slow = toy.asking(frames, "sleep", 1)
    seen: Counter[str] = Counter()
    done = threading.Event()
    began = threading.Barrier(4)

    def call(_: int) -> str:
        """Call until the stop, and say how the call under way then ended."""
        with Client(url, timeout_s=20) as client:
            client.infer(frames, audio)
            began.wait(20)
            try:
                client.infer(slow, audio)
            except AuralServeError as error:
                return f"slow: {error}"
            while not done.is_set():
                try:
                    answer = client.infer(frames, audio)
                    seen["right" if np.array_equal(answer["MASK_LOGITS"], wanted) else "wrong"] += 1
                except ServerUnavailable:
                    seen["unavailable"] += 1
                    done.wait(0.01)
        return "answered"

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call, number) for number in range(3)]
        began.wait(20)
        door = supervised.supervisor.door
        assert door is not None
        # The slow ones are under way: the door counts them as it begins to read.
        eventually(lambda: sum(s.executing for s in [_States(supervised)]) > 0, 10)
        supervised.supervisor.request_stop()
        eventually(lambda: ask(url, f"{SERVICE}ServerReady")[0] == "UNAVAILABLE", 10)
        with Client(url) as client:
            while supervised.thread.is_alive():
                assert not client.is_ready(timeout_s=2)
        done.set()
        assert [call.result(30) for call in calls] == 3 * ["answered"]
    supervised.thread.join(30)
    assert supervised.code == 0
    assert seen["wrong"] == 0


class _States:
    """How many clips are in flight, by the server's own counters."""

    def __init__(self, supervised: Supervised) -> None:
        from service.monitoring.metrics import fetch, in_flight

        self.executing = in_flight(fetch(supervised.supervisor.config.metrics_url))

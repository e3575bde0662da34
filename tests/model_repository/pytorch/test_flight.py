"""Two clips in flight: slots run out, nothing of one clip reaches another, threads end."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralsam2_client.contract import TensorSpec
from model_repository.stage_runtime.pytorch.device.captured import Captured
from model_repository.stage_runtime.pytorch.device.flight import Flight, Slot, Worker
from model_repository.stage_runtime.pytorch.device.lanes import Mark

CPU = torch.device("cpu")
INPUTS, OUTPUTS = [TensorSpec("X", "FP32", (3,))], [TensorSpec("Y", "FP32", (3,))]


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def upload(flight: Flight, value: float) -> Slot:
    return flight.upload({"X": np.full(3, value, np.float32)})


def test_clips_in_flight_keep_their_own_memory() -> None:
    flight, graph = Flight(INPUTS, OUTPUTS, CPU), Captured(Twice(), INPUTS, OUTPUTS, CPU)
    first, second = upload(flight, 1), upload(flight, 5)
    flight.download(first, flight.replay(graph, first), ["Y"])
    # The first is on its way back while the second computes into the same outputs.
    flight.download(second, flight.replay(graph, second), ["Y"])
    assert flight.collect(second, ["Y"])["Y"].tolist() == [10, 10, 10]
    assert flight.collect(first, ["Y"])["Y"].tolist() == [2, 2, 2]
    assert flight.collect(first, []) == {}


def test_a_third_clip_waits_for_a_free_slot() -> None:
    flight = Flight(INPUTS, OUTPUTS, CPU, slots=2)
    taken = [upload(flight, 1), upload(flight, 2)]
    arrived = list[Slot]()
    third = threading.Thread(target=lambda: arrived.append(upload(flight, 3)))
    third.start()
    third.join(0.2)
    assert not arrived
    flight.release(taken[0])
    third.join(10)
    assert arrived == [taken[0]]
    assert arrived[0].arrived["X"].tolist() == [3, 3, 3]


def test_a_worker_does_what_it_was_given_in_order_and_then_ends() -> None:
    done = list[int]()
    worker = Worker("count", done.append)
    for number in range(100):
        worker.give(number)
    worker.close()
    assert done == list(range(100))
    assert not worker._thread.is_alive()


def test_a_clip_that_does_not_come_in_leaves_its_slot() -> None:
    flight = Flight(INPUTS, OUTPUTS, CPU, slots=1)
    with pytest.raises(ValueError, match="broadcast"):
        flight.upload({"X": np.zeros(4, np.float32)})
    assert flight._free.qsize() == 1, "the next caller would wait for ever"
    assert upload(flight, 3).arrived["X"].tolist() == [3, 3, 3]


def test_a_worker_outlives_what_its_work_raises() -> None:
    done, lines = list[int](), list[str]()

    def work(number: int) -> None:
        if number == 1:
            raise RuntimeError("the response sender is closed")
        done.append(number)

    worker = Worker("answer", work, lines.append)
    for number in range(3):
        worker.give(number)
    worker.close()
    assert done == [0, 2]
    assert lines == ["answer: RuntimeError('the response sender is closed')"]


def test_marks_on_a_cpu_tell_the_time_between_them() -> None:
    before, after = Mark(CPU, timed=True), Mark(CPU, timed=True)
    before.note()
    after.note()
    after.wait()
    assert after.seconds_since(before) >= 0 >= before.seconds_since(after)

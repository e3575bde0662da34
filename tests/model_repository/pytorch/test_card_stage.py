"""One stage of the chain on a device: what a caller sent is checked, results that overflowed are not answered."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralsam2_client.contract import TensorSpec
from model_repository.stage_runtime.engine import EngineError
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.engine.stage import TensorShape
from model_repository.stage_runtime.pytorch.card_stage import CardStage
from model_repository.stage_runtime.pytorch.device.captured import Captured
from model_repository.stage_runtime.pytorch.device.failures import Card, CardFailed

CPU = torch.device("cpu")
CARD = Card(CPU, "NVIDIA H200", "")
FLOAT = np.dtype(np.float32)


class Square(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * x, x + 1


def stage(module: nn.Module | None = None, shape: tuple[int, ...] = (2,)) -> CardStage:
    outputs = [TensorSpec("IOU", "FP32", (2,)), TensorSpec("FEATURE", "FP32", (2,))]
    graph = Captured(module or Square(), [TensorSpec("X", "FP32", (2,))], outputs, CPU)
    taken = [TensorShape("X", FLOAT, shape), TensorShape("TOKENS", FLOAT, (1,))]
    given = [*(TensorShape(name, FLOAT, (2,)) for name in ("IOU", "FEATURE")), TensorShape("TOKENS", FLOAT, (1,))]
    return CardStage(graph, taken, given, CARD)


def ask(asked: CardStage, x: Any) -> dict[str, Any]:
    return asked({"X": x, "TOKENS": np.zeros(1, np.float32)})


def test_results_are_arrays_and_what_others_read_are_tensors_of_their_own() -> None:
    asked = stage()
    first = ask(asked, np.array([1, 2], np.float32))
    second = ask(asked, torch.tensor([3.0, 4.0]))
    assert isinstance(first["IOU"], np.ndarray)
    assert isinstance(first["FEATURE"], Tensor)
    assert first["FEATURE"].tolist() == [2, 3], "not overwritten by the second clip"
    assert second["IOU"].tolist() == [9, 16]
    assert second["TOKENS"].tolist() == [0]


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(3, np.float32),
        np.zeros(2, np.float64),
        np.array([1, np.nan], np.float32),
        torch.zeros(3),
        torch.zeros(2, dtype=torch.float64),
    ],
)
def test_what_does_not_fit_is_refused(x: Any) -> None:
    with pytest.raises(BadRequest, match="X: "):
        ask(stage(), x)


def test_an_overflow_is_no_answer() -> None:
    with pytest.raises(EngineError, match=r"IOU is inf at \[1\]; the network overflowed"):
        ask(stage(), np.array([1, 1e30], np.float32))


def test_a_failing_card_is_told_apart_from_our_own_fault() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise ValueError("ours")

    with pytest.raises(CardFailed, match="NVIDIA H200 has no memory left"):
        ask(stage(Full()), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="ours"):
        ask(stage(Broken()), np.zeros(2, np.float32))


def test_a_configuration_of_another_shape_is_found_at_the_start() -> None:
    with pytest.raises(EngineError, match=r"X is \[2\] in the network, \(3,\) in config.pbtxt"):
        stage(shape=(3,))

"""A module with its buffers: allocated once, copied into, and called; on a card the same is replayed."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralsam2_client.contract import TensorSpec
from model_repository.stage_runtime.pytorch.device.captured import Captured, from_numpy, torch_dtype

CPU = torch.device("cpu")
INPUTS = (TensorSpec("FRAMES", "UINT8", (2, 3)), TensorSpec("AUDIO", "FP32", (2,)))
OUTPUTS = (TensorSpec("SUM", "FP32", (2,)), TensorSpec("TWICE", "FP32", (2,)))


class Arithmetic(nn.Module):
    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        assert not torch.is_grad_enabled()
        return frames.float().sum(1) + audio, 2 * audio


def test_a_call_copies_in_by_name_and_computes_in_the_same_buffers() -> None:
    captured = Captured(Arithmetic(), INPUTS, OUTPUTS, CPU)
    places = {name: buffer.data_ptr() for name, buffer in captured.inputs.items()}
    for factor in (1, 2):
        frames = np.full((2, 3), factor, np.uint8)
        found = captured({"AUDIO": torch.tensor([0.5, 1.0]), "FRAMES": frames, "OTHER": None})
        assert found["SUM"].tolist() == [3 * factor + 0.5, 3 * factor + 1.0]
        assert found["TWICE"].tolist() == [1.0, 2.0]
    assert {name: buffer.data_ptr() for name, buffer in captured.inputs.items()} == places
    assert captured.input_shapes == {"FRAMES": (2, 3), "AUDIO": (2,)}


def test_a_module_that_gives_another_number_of_outputs_is_found_out() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Captured(Arithmetic(), INPUTS, (*OUTPUTS, TensorSpec("MORE", "FP32", (2,))), CPU).replay()


def test_a_shape_that_does_not_fit_is_refused() -> None:
    captured = Captured(Arithmetic(), INPUTS, OUTPUTS, CPU)
    with pytest.raises(RuntimeError, match="must match"):
        captured({"FRAMES": np.zeros((2, 4), np.uint8), "AUDIO": np.zeros(2, np.float32)})


def test_types_are_those_of_the_contract() -> None:
    wanted = {"FP32": torch.float32, "UINT8": torch.uint8, "INT32": torch.int32, "BOOL": torch.bool}
    assert {kind: torch_dtype(TensorSpec("X", kind, (1,))) for kind in wanted} == wanted


def test_memory_that_cannot_be_written_or_is_not_in_order_is_copied() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert from_numpy(values).data_ptr() == values.ctypes.data
    assert from_numpy(values.T).tolist() == values.T.tolist()
    values.flags.writeable = False
    assert from_numpy(values).data_ptr() != values.ctypes.data

"""Chains with open sizes: what TensorRT would compute from its shapes is what the plan of plain integers says."""

from typing import Any

import pytest
import torch

from kernels import plugin_operators
from kernels.catalogue import default_blocks
from kernels.tensorrt_plugins import Expression, Fused, evaluate

BLOCKS = default_blocks(torch.float16, 80)
FUSED = [
    plugin_operators.audio_visual_fusion("released", 64 * 64, 256, 128, BLOCKS),
    plugin_operators.audio_visual_fusion("released", 14 * 14, 256, 128, BLOCKS),
    plugin_operators.audio_visual_fusion("paper", 16 * 16, 128, 64, BLOCKS),
    plugin_operators.memory_attention(4096, 64, 256, 64, BLOCKS),
    plugin_operators.depthwise_gelu(64, 1024, BLOCKS),
]
REQUESTS = [{"T": 1, "M": 1, "K": 4160}, {"T": 5, "M": 5, "K": 28736}, {"T": 16, "M": 41, "K": 8256}]


def shapes(fused: Fused, sizes: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in shape)
        for name, shape in fused.inputs.items()
    }


@pytest.mark.parametrize("request_sizes", REQUESTS, ids=str)
@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: fused.name)
def test_open_sizes_compute_what_integers_do(fused: Fused, request_sizes: dict[str, int]) -> None:
    names = {name: Expression("size", name) for name in request_sizes}
    values = {names[name]: size for name, size in request_sizes.items()}
    opened = fused.plan(shapes(fused, names), torch.float16)
    plain = fused.plan(shapes(fused, request_sizes), torch.float16)
    assert len(opened.launches) == len(plain.launches)
    for ours, theirs in zip(opened.launches, plain.launches, strict=True):
        assert ours.name == theirs.name
        assert tuple(evaluate(size, values) for size in ours.grid) == theirs.grid
        assert {name: evaluate(size, values) for name, size in ours.integers.items()} == theirs.integers
        assert ours.constants == theirs.constants
    for name, buffer in opened.buffers.items():
        assert tuple(evaluate(size, values) for size in buffer.shape) == plain.buffers[name].shape
        assert buffer.dtype == plain.buffers[name].dtype


@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: fused.name)
def test_inputs_are_the_plan_s(fused: Fused) -> None:
    plain = fused.plan(shapes(fused, REQUESTS[1]), torch.float16)
    assert list(fused.inputs) == list(plain.inputs)
    for name, shape in shapes(fused, REQUESTS[1]).items():
        assert plain.buffers[name].shape == shape

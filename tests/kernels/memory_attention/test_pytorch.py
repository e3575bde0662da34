"""The PyTorch form against complex numbers and sums written out, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.launching.errors import KernelError
from kernels.memory_attention.pytorch import memory_attention

SHAPES = [
    pytest.param(4, 3, 2, 128, 32, id="frames-and-pointers"),
    pytest.param(6, 2, 0, 256, 64, id="frames-alone"),
    pytest.param(5, 0, 3, 128, 16, id="pointers-alone"),
    pytest.param(1, 1, 0, 128, 16, id="one-key"),
]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(num_queries: int, frames: int, pointers: int, width: int, value_width: int) -> Inputs:
    draw = torch.Generator().manual_seed(7)
    num_keys = frames * num_queries + pointers
    angle = torch.rand(num_queries, width // 2, generator=draw) * 6.3
    query, key, value = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((num_queries, width), (num_keys, width), (num_keys, value_width))
    )
    return query, key, value, angle.cos(), angle.sin()


@pytest.mark.parametrize(("num_queries", "frames", "pointers", "width", "value_width"), SHAPES)
def test_against_complex_numbers(num_queries: int, frames: int, pointers: int, width: int, value_width: int) -> None:
    """SAM2 rotates by a complex product; the real part of a product with a conjugate is the product of two pairs."""
    tensors = inputs(num_queries, frames, pointers, width, value_width)
    query, key, value, cos, sin = (tensor.double().numpy() for tensor in tensors)
    turn = cos + 1j * sin
    q = (query[:, 0::2] + 1j * query[:, 1::2]) * turn
    k = key[:, 0::2] + 1j * key[:, 1::2]
    for n in range(frames * num_queries):
        k[n] *= turn[n % num_queries]
    truth = np.zeros((num_queries, value_width))
    for n in range(num_queries):
        raised = np.exp((q[n] * k.conj()).real.sum(1) / np.sqrt(width))
        truth[n] = raised @ value / raised.sum()
    ours = memory_attention(*tensors, num_unrotated=pointers)
    assert np.abs(ours.numpy() - truth).max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_has_the_dtype_of_the_query(dtype: torch.dtype) -> None:
    query, key, value, cos, sin = inputs(4, 2, 1, 128, 32)
    ours = memory_attention(query.to(dtype), key.to(dtype), value.to(dtype), cos, sin, 1)
    assert ours.dtype == dtype
    truth = memory_attention(query, key, value, cos, sin, 1)
    assert (ours.double() - truth).abs().max() < 8 * torch.finfo(dtype).eps


def test_rotation_is_computed_in_float32() -> None:
    """A query of halves, rotated by a table that float16 would round, is rounded once, after the rotation."""
    angle = torch.linspace(0, 3, 64)[None]
    query = torch.full((1, 128), 0.5, dtype=torch.float16)
    once = torch.stack([0.5 * (angle.cos() - angle.sin()), 0.5 * (angle.sin() + angle.cos())], -1).flatten()
    key = torch.eye(128, dtype=torch.float16)
    logits = memory_attention(query * 8, key * 8, key, angle.cos(), angle.sin(), 128)[0].double().log()
    expected = torch.log_softmax((once.half().double() * 64 / 128**0.5), 0)
    assert (logits - expected).abs().max() < 4e-3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"query": torch.zeros(4, 64)}, "as wide as query", id="widths-differ"),
        pytest.param({"value": torch.zeros(8, 32)}, "as many rows as value", id="values-missing"),
        pytest.param({"value": torch.zeros(9, 32).half()}, "share one float dtype", id="dtypes-differ"),
        pytest.param({"cos": torch.zeros(4, 128)}, "128 / 2", id="table-too-wide"),
        pytest.param({"cos": torch.zeros(3, 64), "sin": torch.zeros(3, 64)}, "a row for each query", id="table-short"),
        pytest.param({"query": torch.zeros(1, 4, 128)}, "two dimensions", id="batch"),
        pytest.param({"num_unrotated": 2}, "multiple of 4", id="part-of-a-frame"),
        pytest.param({"num_unrotated": 10}, "0 to 9", id="more-pointers-than-keys"),
        pytest.param({"num_unrotated": -1}, "0 to 9", id="negative"),
    ],
)
def test_disagreement_is_refused(change: dict[str, Tensor | int], named: str) -> None:
    arguments: dict[str, Tensor | int] = {
        "query": torch.zeros(4, 128),
        "key": torch.zeros(9, 128),
        "value": torch.zeros(9, 32),
        "cos": torch.ones(4, 64),
        "sin": torch.zeros(4, 64),
        "num_unrotated": 1,
    }
    memory_attention(**arguments)  # type: ignore[arg-type]
    with pytest.raises(KernelError, match=named):
        memory_attention(**{**arguments, **change})  # type: ignore[arg-type]

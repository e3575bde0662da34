"""The kernel against float64, through the interpreter where there is no GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.depthwise_gelu.plan import KERNEL, DepthwiseGeluSizes, default_blocks, plan
from kernels.launching.launch import Blocks
from kernels.launching.prepared import run
from loadtests.gpu.checks import samples
from loadtests.gpu.checks.samples import DepthwiseSample, draw_depthwise, error

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TINY = {KERNEL: Blocks({"ROWS": 2, "BLOCK_W": 4, "BLOCK_F": 16}, 1, 1)}
"""Smaller than most maps here, so that borders of blocks fall inside them."""
SHAPES = [
    pytest.param(1, 1, 16, TINY, id="one-pixel"),
    pytest.param(2, 2, 16, TINY, id="corners-alone"),
    pytest.param(3, 3, 32, TINY, id="straddling"),
    pytest.param(1, 7, 16, TINY, id="odd"),
    pytest.param(1, 4, 48, TINY, id="blocks-fill-the-map"),
    pytest.param(1, 14, 64, default_blocks(torch.float16, 90), id="map-of-224-pixels"),
    pytest.param(1, 16, 64, default_blocks(torch.float32, 90), id="map-of-256-pixels"),
]
Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(num_frames: int, side: int, features: int, dtype: torch.dtype, scale: float = 1.0) -> Inputs:
    drawn = draw_depthwise(num_frames, side, features, dtype, scale)
    return drawn.hidden, drawn.weight, drawn.bias


def filled_with_nan(*shape: Any, **options: Any) -> Tensor:
    return torch.full(*shape, float("nan"), **options)


def fused(tensors: Inputs, side: int, blocks: dict[str, Blocks]) -> Tensor:
    hidden, weight, bias = tensors
    sizes = DepthwiseGeluSizes(hidden.shape[0], side, hidden.shape[2])
    held = {"hidden": hidden.to(DEVICE), "weight": weight.to(DEVICE), "bias": bias.to(DEVICE)}
    (out,) = run(plan(sizes, hidden.dtype, blocks), held, empty=filled_with_nan)
    return out.cpu()


def excess(tensors: Inputs, side: int, compute: Callable[[], Tensor]) -> float:
    """The largest error of `compute()` against float64, as a multiple of what is allowed."""
    return samples.excess((compute(),), DepthwiseSample(*tensors, side))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_frames", "side", "features", "blocks"), SHAPES)
def test_against_float64(
    num_frames: int, side: int, features: int, blocks: dict[str, Blocks], dtype: torch.dtype
) -> None:
    tensors = inputs(num_frames, side, features, dtype)
    assert excess(tensors, side, lambda: fused(tensors, side, blocks)) <= 1


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        pytest.param(torch.float32, 1.01, id="float32"),
        pytest.param(torch.float16, 1.01, id="float16"),
        # With 8 bits of mantissa PyTorch's own error is near 1 %.
        pytest.param(torch.bfloat16, 1.05, id="bfloat16"),
    ],
)
@pytest.mark.parametrize("tap", range(9))
def test_one_tap_slightly_off_is_found(tap: int, dtype: torch.dtype, factor: float) -> None:
    hidden, weight, bias = tensors = inputs(1, 4, 16, dtype)
    wrong = weight.clone()
    wrong.flatten(1)[:, tap] *= factor
    assert excess(tensors, 4, lambda: fused((hidden, wrong, bias), 4, TINY)) > 1


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    num_frames=st.integers(1, 2),
    side=st.integers(1, 6),
    block_w=st.sampled_from([2, 8]),
    rows=st.integers(1, 4),
    features=st.sampled_from([16, 32]),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
)
def test_any_shape_and_scale(
    num_frames: int, side: int, block_w: int, rows: int, features: int, dtype: torch.dtype, scale: float
) -> None:
    blocks = {KERNEL: Blocks({"ROWS": rows, "BLOCK_W": block_w, "BLOCK_F": 16}, 1, 1)}
    tensors = inputs(num_frames, side, features, dtype, scale)
    assert excess(tensors, side, lambda: fused(tensors, side, blocks)) <= 1


@pytest.mark.parametrize("corner", [0, 4, 20, 24])
def test_a_hot_corner_spreads_to_its_neighbours_and_no_further(corner: int) -> None:
    """Each neighbour takes the tap that lies opposite; the next row, the next frame and the other side take nothing."""
    side, features = 5, 16
    hidden = torch.zeros(3, side * side, features)
    hidden[1, corner] = 1
    weight = torch.arange(1, 10, dtype=torch.float32).view(1, 1, 3, 3).repeat(features, 1, 1, 1)
    expected = torch.zeros(3, side, side, features)
    row, column = divmod(corner, side)
    for y in range(max(row - 1, 0), min(row + 2, side)):
        for x in range(max(column - 1, 0), min(column + 2, side)):
            expected[1, y, x] = 1 + 3 * (row - y + 1) + (column - x + 1)
    ours = fused((hidden, weight, torch.zeros(features)), side, TINY)
    assert torch.allclose(ours, F.gelu(expected).flatten(1, 2), rtol=1e-6, atol=0)


def test_gelu_of_every_finite_float16() -> None:
    """The centre tap alone is 1: what comes out is GELU. PyTorch's own, in float32, is off by up to 1.2e-6."""
    values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    hidden = torch.where(values.isfinite(), values, 0).float().view(1, 32 * 32, 64)
    weight = torch.zeros(64, 1, 3, 3)
    weight[:, 0, 1, 1] = 1
    ours = fused((hidden, weight, torch.zeros(64)), 32, default_blocks(torch.float16, 90))
    truth = hidden.double() * torch.special.ndtr(hidden.double())
    within = hidden.abs() < 12
    assert error(ours[within], truth[within]) < 3e-7
    assert error(ours[hidden < 0], truth[hidden < 0]) < 5e-8
    assert torch.equal(ours[hidden >= 12], hidden[hidden >= 12])
    assert error(ours[hidden <= -12], truth[hidden <= -12]) < 1e-8


def test_nan_and_infinity_pass() -> None:
    hidden = torch.tensor([float("nan"), float("inf"), float("-inf"), 1.0])[:, None, None].expand(4, 1, 16).contiguous()
    ours = fused((hidden, torch.ones(16, 1, 3, 3), torch.zeros(16)), 1, TINY)[:, 0, 0]
    assert ours[0].isnan()
    assert ours[1] == float("inf")
    assert abs(ours[2]) < 1e-8
    assert ours[3] == pytest.approx(0.8413447)

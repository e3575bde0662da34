"""What a plan refuses, and what it says of its launch."""

import pytest
import torch

from kernels.depthwise_gelu.plan import DepthwiseGeluSizes, default_blocks, plan
from kernels.launching.errors import KernelError


@pytest.mark.parametrize(
    ("num_frames", "side", "features", "message"),
    [
        pytest.param(1, 0, 64, "side 0", id="no-side"),
        pytest.param(1, 4, 0, "0 features", id="no-features"),
        pytest.param(0, 4, 64, "0 frames", id="no-frames"),
        pytest.param(1, 2048, 1024, "32-bit", id="offsets"),
    ],
)
def test_sizes_out_of_reach(num_frames: int, side: int, features: int, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        DepthwiseGeluSizes(num_frames, side, features)


def test_features_must_fill_blocks() -> None:
    with pytest.raises(KernelError, match="80 features in blocks of 64"):
        plan(DepthwiseGeluSizes(1, 4, 80), torch.float16, default_blocks(torch.float16, 90))


def test_types_without_a_kernel() -> None:
    with pytest.raises(KernelError, match="float64"):
        plan(DepthwiseGeluSizes(1, 4, 64), torch.float64, default_blocks(torch.float32, 90))


@pytest.mark.parametrize("side", [64, 32, 16, 14])
def test_the_grid_covers_the_map_and_the_traffic_is_one_read_and_one_write(side: int) -> None:
    made = plan(DepthwiseGeluSizes(5, side, 1024), torch.float16, default_blocks(torch.float16, 90))
    (launch,) = made.launches
    assert launch.grid == (16, -(-side // 16) * -(-side // 8), 5)
    assert made.traffic() == {"depthwise_gelu": 2 * (2 * 5 * side * side * 1024 + 10 * 1024)}
    assert made.signature(launch)["hidden"] == "*fp16"

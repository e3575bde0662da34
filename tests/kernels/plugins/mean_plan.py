"""A small plan of two launches, the mean of x W over a clip, for tests that make chains of plugins of it."""

from collections.abc import Callable, Mapping

import torch
import triton
import triton.language as tl

from kernels.compilation import Compiled
from kernels.launching.launch import Buffer, Launch, Plan, Size, cdiv
from kernels.plugins.chains import Chain, Fused, build_chain
from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile

CHANNELS, BLOCK = 64, 32


@triton.jit
def block_sums(x_ptr, weight_ptr, num_pixels, num_parts, sums_ptr, C: tl.constexpr, BLOCK: tl.constexpr):
    """Sums of W x over BLOCK pixels of one frame: x [T, P, C], W [C, C] -> [T, parts, C]."""
    part, frame = tl.program_id(0), tl.program_id(1)
    pixels = part * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    channels = tl.arange(0, C)  # [C]
    places = (frame * num_pixels + pixels)[:, None] * C + channels[None, :]
    x = tl.load(x_ptr + places, mask=(pixels < num_pixels)[:, None], other=0.0)  # [BLOCK, C]
    weight = tl.load(weight_ptr + channels[:, None] * C + channels[None, :])  # [C, C]
    tl.store(sums_ptr + (frame * num_parts + part) * C + channels, tl.sum(tl.dot(x, weight), 0))


@triton.jit
def clip_mean(sums_ptr, num_sums, num_rows, mean_ptr, C: tl.constexpr):
    """Mean over all pixels of all frames: [T, parts, C] -> [C]."""
    channels = tl.arange(0, C)  # [C]
    total = tl.zeros((C,), tl.float32)
    for row in range(num_sums):
        total += tl.load(sums_ptr + row * C + channels)
    tl.store(mean_ptr + channels, (total / num_rows).to(mean_ptr.dtype.element_ty))


def mean_plan(shapes: Mapping[str, tuple[Size, ...]], dtype: torch.dtype) -> Plan:
    """x [T, P, C], weight [C, C] -> the mean of x W. Its second launch needs T P, which its own input does not show."""
    num_frames, num_pixels, _ = shapes["x"]
    num_parts = cdiv(num_pixels, BLOCK)
    buffers = {
        "x": Buffer((num_frames, num_pixels, CHANNELS), dtype),
        "weight": Buffer((CHANNELS, CHANNELS), dtype),
        "sums": Buffer((num_frames, num_parts, CHANNELS), torch.float32),
        "mean": Buffer((CHANNELS,), dtype),
    }
    sums = Launch(
        kernel=block_sums,
        # Not in the kernel's order: it is the kernel's that counts.
        inputs={"weight_ptr": "weight", "x_ptr": "x"},
        integers={"num_parts": num_parts, "num_pixels": num_pixels},
        outputs={"sums_ptr": "sums"},
        constants={"C": CHANNELS, "BLOCK": BLOCK},
        grid=(num_parts, num_frames, 1),
        num_warps=4,
        num_stages=1,
    )
    mean = Launch(
        kernel=clip_mean,
        inputs={"sums_ptr": "sums"},
        integers={"num_sums": num_frames * num_parts, "num_rows": 1 * num_pixels * num_frames},
        outputs={"mean_ptr": "mean"},
        constants={"C": CHANNELS},
        grid=(1, 1, 1),
        num_warps=1,
        num_stages=1,
    )
    return Plan(buffers, inputs=("x", "weight"), outputs=("mean",), launches=(sums, mean))


MEAN = Fused("mean", {"x": ("T", "P", CHANNELS), "weight": (CHANNELS, CHANNELS)}, mean_plan)


def mean_chain(compiler: Callable[..., Compiled] = pretend_to_compile) -> Chain:
    return build_chain(MEAN, torch.float16, 80, compiler=compiler)

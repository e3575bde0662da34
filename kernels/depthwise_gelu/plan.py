"""How the depth-wise convolution with GELU is cut: one launch, its grid and block sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from kernels.depthwise_gelu import triton_kernels
from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Blocks, Buffer, Launch, Plan, Size, cdiv

KERNEL = "depthwise_gelu"
MAX_ELEMENTS = 2**31 - 1
"""Offsets inside one frame are 32-bit."""


@dataclass(frozen=True)
class DepthwiseGeluSizes:
    """T frames of side * side tokens with `features` each. The number of frames may be symbolic."""

    num_frames: Size
    side: int
    features: int

    def __post_init__(self) -> None:
        if self.side < 1 or self.features < 1:
            raise KernelError(
                f"depth-wise convolution of side {self.side} with {self.features} features: each must be at least 1."
            )
        if isinstance(self.num_frames, int) and self.num_frames < 1:
            raise KernelError(f"depth-wise convolution of {self.num_frames} frames: there must be at least 1.")
        if self.side**2 * self.features > MAX_ELEMENTS:
            raise KernelError(
                f"depth-wise convolution of side {self.side} with {self.features} features: a frame would pass"
                f" {MAX_ELEMENTS} elements, the reach of a 32-bit offset."
            )


def default_blocks(dtype: torch.dtype, capability: int) -> dict[str, Blocks]:
    """Choose block sizes that compile without spills and leave 16 to 24 warps to a multiprocessor, before any tuning.

    128 bytes of a pixel and four features a thread where that takes at most 128 registers; else two features a thread.
    """
    slim = dtype == torch.float32 or capability == 100
    return {KERNEL: Blocks({"ROWS": 8, "BLOCK_W": 16, "BLOCK_F": 32 if slim else 64}, 8, 1)}


def plan(sizes: DepthwiseGeluSizes, dtype: torch.dtype, blocks: Mapping[str, Blocks]) -> Plan:
    """Plan the one launch.

    Args:
        dtype: of tokens and weights, in and out: float32, float16 or bfloat16.
        blocks: for the kernel by name, as `default_blocks`.
    Returns: a plan with the inputs `hidden`, `weight`, `bias` and the output `activated`, shaped as `pytorch.py` says.
    Raises: KernelError for another dtype, and where features are no multiple of BLOCK_F.
    """
    if dtype not in ELEMENT_NAMES:
        raise KernelError(f"depth-wise convolution in {dtype}: kernels exist for {', '.join(ELEMENT_NAMES.values())}.")
    own = blocks[KERNEL]
    rows, block_w, block_f = (own.sizes[name] for name in ("ROWS", "BLOCK_W", "BLOCK_F"))
    if sizes.features % block_f:
        raise KernelError(
            f"depth-wise convolution of {sizes.features} features in blocks of {block_f}: features must be a"
            " multiple of BLOCK_F. Choose blocks with a smaller power of two."
        )
    tokens = Buffer((sizes.num_frames, sizes.side**2, sizes.features), dtype)
    launch = Launch(
        kernel=triton_kernels.depthwise_gelu,
        inputs={"hidden": "hidden", "weight": "weight", "bias": "bias"},
        integers={},
        outputs={"out": "activated"},
        constants={"SIDE": sizes.side, "F": sizes.features, **own.sizes},
        grid=(sizes.features // block_f, cdiv(sizes.side, block_w) * cdiv(sizes.side, rows), sizes.num_frames),
        num_warps=own.num_warps,
        num_stages=own.num_stages,
    )
    buffers = {
        "hidden": tokens,
        "weight": Buffer((sizes.features, 1, 3, 3), dtype),
        "bias": Buffer((sizes.features,), dtype),
        "activated": tokens,
    }
    return Plan(buffers, ("hidden", "weight", "bias"), ("activated",), (launch,))

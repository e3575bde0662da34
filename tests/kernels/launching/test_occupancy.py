"""Resident warps, against cases that can be worked out by hand from the published limits."""

from dataclasses import dataclass

import pytest

from kernels.launching.errors import KernelError
from kernels.launching.occupancy import ARCHITECTURES, architecture, occupancy, resident_blocks, resident_warps

KB = 1024


@dataclass(frozen=True)
class Kernel:
    capability: int
    num_warps: int
    registers: int
    shared_bytes: int = 0
    tensor_memory_columns: int = 0


@pytest.mark.parametrize(
    ("kernel", "blocks"),
    [
        # Registers: 255 are handed out as 256, 8192 a warp, two warps a partition, eight a multiprocessor.
        (Kernel(90, num_warps=4, registers=255), 2),
        (Kernel(90, num_warps=8, registers=255), 1),
        (Kernel(86, num_warps=4, registers=168), 3),
        # 168 registers are 5376 a warp, three warps of 5376 in a partition; one more and it is two.
        (Kernel(80, num_warps=4, registers=169), 2),
        # A block of one warp holds a place in all four partitions.
        (Kernel(80, num_warps=1, registers=255), 2),
        # Warps.
        (Kernel(80, num_warps=4, registers=32), 16),
        (Kernel(89, num_warps=4, registers=32), 12),
        # Blocks.
        (Kernel(86, num_warps=1, registers=16), 16),
        (Kernel(89, num_warps=1, registers=16), 24),
        (Kernel(90, num_warps=1, registers=16), 32),
        # Shared memory, and the 1 KB that the system adds to each block.
        (Kernel(80, num_warps=4, registers=32, shared_bytes=81 * KB), 2),
        (Kernel(80, num_warps=4, registers=32, shared_bytes=81 * KB + 1), 1),
        (Kernel(120, num_warps=4, registers=32, shared_bytes=99 * KB), 1),
        (Kernel(120, num_warps=4, registers=32, shared_bytes=99 * KB + 1), 0),
        # Tensor memory: 512 columns.
        (Kernel(100, num_warps=4, registers=32, tensor_memory_columns=256), 2),
        (Kernel(100, num_warps=4, registers=32, tensor_memory_columns=512), 1),
    ],
)
def test_blocks_that_fit(kernel: Kernel, blocks: int) -> None:
    assert resident_blocks(kernel) == blocks
    assert resident_warps(kernel) == blocks * kernel.num_warps


def test_occupancy_is_a_share_of_the_most_warps() -> None:
    assert occupancy(Kernel(80, num_warps=4, registers=128)) == 16 / 64
    assert occupancy(Kernel(86, num_warps=4, registers=128)) == 16 / 48
    assert occupancy(Kernel(86, num_warps=4, registers=128, shared_bytes=100 * KB)) == 0


@pytest.mark.parametrize(("capability", "kilobytes"), [(80, 163), (86, 99), (89, 99), (90, 227), (100, 227), (120, 99)])
def test_the_largest_block(capability: int, kilobytes: int) -> None:
    assert ARCHITECTURES[capability].shared_bytes_per_block == kilobytes * KB


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(KernelError, match=r"compute capability 75 is not known here; known are 80, 86"):
        architecture(75)

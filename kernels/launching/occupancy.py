"""How many warps of a kernel a multiprocessor holds at once, from what the compiler says that the kernel takes.

Source  CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": 64 K registers a multiprocessor,
        in four partitions, handed to warps in units of 256; 1 KB of shared memory taken by the system for each block;
        512 columns of tensor memory on sm_100.

It is a bound from resources, not a measurement: a kernel with fewer warps and more loads in flight can be the faster.
"""

from dataclasses import dataclass
from typing import Protocol

from kernels.launching.errors import KernelError

WARP_SIZE = 32
PARTITIONS = 4
REGISTERS = 64 * 1024
REGISTER_UNIT = 256
SHARED_UNIT_BYTES = 128
SYSTEM_SHARED_BYTES = 1024
TENSOR_MEMORY_COLUMNS = 512


@dataclass(frozen=True)
class Architecture:
    """What one multiprocessor offers to resident blocks."""

    max_warps: int
    max_blocks: int
    shared_bytes: int

    @property
    def shared_bytes_per_block(self) -> int:
        """The most that one block can ask for, once it has asked for more than 48 KB to be allowed."""
        return self.shared_bytes - SYSTEM_SHARED_BYTES


ARCHITECTURES = {
    80: Architecture(max_warps=64, max_blocks=32, shared_bytes=164 * 1024),
    86: Architecture(max_warps=48, max_blocks=16, shared_bytes=100 * 1024),
    89: Architecture(max_warps=48, max_blocks=24, shared_bytes=100 * 1024),
    90: Architecture(max_warps=64, max_blocks=32, shared_bytes=228 * 1024),
    100: Architecture(max_warps=64, max_blocks=32, shared_bytes=228 * 1024),
    120: Architecture(max_warps=48, max_blocks=24, shared_bytes=100 * 1024),
}
"""Compute capability, as 10 x major + minor: A100; RTX 30 and A10; RTX 40, L4 and L40S; H100 and H200; B200; RTX 50."""


class Usage(Protocol):
    """What the compiler reports of one kernel; `kernels.compilation.Compiled` has all of it."""

    @property
    def capability(self) -> int: ...
    @property
    def num_warps(self) -> int: ...
    @property
    def registers(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...
    @property
    def tensor_memory_columns(self) -> int: ...


def architecture(capability: int) -> Architecture:
    """Look up the limits of a compute capability.

    Raises: KernelError for one that this package does not know.
    """
    if capability not in ARCHITECTURES:
        known = ", ".join(str(known) for known in ARCHITECTURES)
        raise KernelError(f"compute capability {capability} is not known here; known are {known} (10 x major + minor).")
    return ARCHITECTURES[capability]


def round_up(amount: int, unit: int) -> int:
    return -(-amount // unit) * unit


def resident_blocks(usage: Usage) -> int:
    """Count the blocks that one multiprocessor holds at once; 0 when not even one fits.

    Raises: KernelError for an unknown compute capability.
    """
    limits = architecture(usage.capability)
    shared = round_up(usage.shared_bytes + SYSTEM_SHARED_BYTES, SHARED_UNIT_BYTES)
    registers = round_up(usage.registers * WARP_SIZE, REGISTER_UNIT)
    blocks = [limits.max_blocks, limits.max_warps // usage.num_warps, limits.shared_bytes // shared]
    if registers:
        # A block's warps are dealt to the partitions in turn, so a block of one warp holds a place in each.
        blocks.append(REGISTERS // registers // round_up(usage.num_warps, PARTITIONS))
    if usage.tensor_memory_columns:
        blocks.append(TENSOR_MEMORY_COLUMNS // usage.tensor_memory_columns)
    return min(blocks)


def resident_warps(usage: Usage) -> int:
    """Count the warps that one multiprocessor holds at once."""
    return resident_blocks(usage) * usage.num_warps


def occupancy(usage: Usage) -> float:
    """Divide resident warps by the most that the multiprocessor could hold: 0 (does not fit) to 1."""
    return resident_warps(usage) / architecture(usage.capability).max_warps

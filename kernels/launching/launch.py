"""A fused operator as data: the buffers it needs and the kernel launches that fill them.

One plan serves everyone. PyTorch runs it, the compiler report builds each launch for each architecture, the traffic
table counts its buffers, and the TensorRT plugins read grids and buffer shapes from it. So no grid is written twice.

Sizes may be integers or a builder's symbolic integers: plans use +, -, * and // on them and nothing else. What must be
known at compile time (channels, block sizes) is a constant and never depends on a symbolic size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Size = Any
"""int, or a symbolic integer of TensorRT's plugin builder."""
Constant = int | float | bool | str

ELEMENT_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
"""The types that go in and out, by the compiler's names for them."""


def cdiv(size: Size, block: int) -> Size:
    """Count the blocks that cover `size`; of symbolic sizes too."""
    return (size + (block - 1)) // block


@dataclass(frozen=True)
class Buffer:
    """A tensor of a plan: input, output, or scratch between two launches."""

    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return int(count * self.dtype.itemsize)


@dataclass(frozen=True)
class Blocks:
    """How one kernel is cut: its block sizes by the kernel's own names, warps a program, and loads in flight."""

    sizes: Mapping[str, int]
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Launch:
    """One kernel launch. The kernel's parameters are: inputs, integers, outputs, constants, in this order.

    It is the order in which TensorRT hands them over; `signature` gives them to the compiler.
    """

    kernel: Any
    """A function under `triton.jit`."""
    inputs: Mapping[str, str]
    """Kernel parameter: buffer."""
    integers: Mapping[str, Size]
    outputs: Mapping[str, str]
    constants: Mapping[str, Constant]
    grid: tuple[Size, Size, Size]
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)


@dataclass(frozen=True)
class Plan:
    """Launches in order, and the buffers they name. Outputs are listed in the order in which they are returned."""

    buffers: Mapping[str, Buffer]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    launches: tuple[Launch, ...] = field(repr=False)

    def signature(self, launch: Launch) -> dict[str, str]:
        """List the parameters in the kernel's order, as the compiler writes them: `*fp16`, `i32`, `constexpr`."""
        pointers = {
            **{parameter: self.buffers[name] for parameter, name in launch.inputs.items()},
            **{parameter: self.buffers[name] for parameter, name in launch.outputs.items()},
        }
        names = list(launch.inputs) + list(launch.integers) + list(launch.outputs)
        types = {name: f"*{ELEMENT_NAMES[pointers[name].dtype]}" if name in pointers else "i32" for name in names}
        types |= dict.fromkeys(launch.constants, "constexpr")
        return {name: types[name] for name in launch.kernel.arg_names}

    def traffic(self) -> dict[str, int]:
        """Count the bytes that each launch moves from and to device memory: every buffer it names, once.

        This is the least that it can move. Whole buffers do not stay in the second-level cache (the largest is 42 MB in
        16 bits, the smallest cache 6 MB, an A10's); what lies between two readings of the same place does, at most
        4.6 MB. One launch is the exception, on the A10 alone: at 1024 px `rotate_memory` comes back to its tables of
        angles after 8.4 MB and reads 29 MB more there than is counted.
        """
        return {
            launch.name: sum(
                self.buffers[name].num_bytes for name in {*launch.inputs.values(), *launch.outputs.values()}
            )
            for launch in self.launches
        }


def check_inputs(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Assert that `tensors` are the plan's inputs: contiguous, of the shapes and types that it names."""
    for name in plan.inputs:
        tensor, buffer = tensors[name], plan.buffers[name]
        assert tuple(tensor.shape) == buffer.shape, f"{name}: {tuple(tensor.shape)}, not {buffer.shape}"
        assert tensor.dtype == buffer.dtype, f"{name}: {tensor.dtype}, not {buffer.dtype}"
        assert tensor.is_contiguous(), f"{name} is not contiguous"

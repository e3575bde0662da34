"""Fused operators as chains of plugins of TensorRT that need no Python when the engine runs.

One plugin is one kernel launch, so a plan becomes a chain of plugins, one a launch, whose scratch buffers are plugin
outputs. `registration` gives them to TensorRT; nothing here needs it.

The plan is built once, with sizes that record what is computed from them; TensorRT's own symbolic integers are put in
when it asks. A launch sees the shapes of its own inputs only. Where its grid depends on another size, a tensor that has
this size as an axis becomes one more input, and its pointer an unused parameter of the kernel.

A plugin's name ends in a digest of its code and of how it is launched. So equal names are equal plugins: registering
one again changes nothing, and a graph that names it says which kernel it means.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kernels.compilation import Compiled, assemble, compile_launch
from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Buffer, Launch, Plan, Size
from kernels.plugins.ptx import add_unused_pointers, block_threads, rename_entry, strip_scratch, widen_target
from kernels.plugins.symbolic_sizes import Expression, named_axes, unknown

NAMESPACE = "auralsam2"
PTX_VERSION = 87
"""PTX 8.7, of CUDA 12.8: the oldest that knows sm_120. A driver loads PTX no newer than itself."""
FORWARD_CAPABILITY = 80
"""PTX for this one is code for every newer card too, and has tensor cores and asynchronous copies."""
DIGEST_CHARACTERS = 8
PLAIN_SHARED_BYTES = 48 * 1024
"""What every kernel may ask for; more has to be allowed by whoever launches it."""


@dataclass(frozen=True)
class Fused:
    """A fused operator, as a chain of plugins wants to know it."""

    name: str
    inputs: Mapping[str, tuple[int | str, ...]]
    """Plan input: its shape. An integer is the same in every request, a name is a size of the request."""
    plan: Callable[[Mapping[str, tuple[Size, ...]], torch.dtype], Plan]
    """Input shapes by name, with symbolic integers for the named sizes, and the dtype -> the plan."""


@dataclass(frozen=True)
class PluginKernel:
    """One launch of a chain. Shapes, grid and integers may be expressions; `inputs` gives a value to each of them."""

    name: str
    """Of the plugin, and of the entry of its PTX."""
    function: str
    """Of the Triton kernel, e.g. released_mix."""
    ptx: str
    block_threads: int
    shared_bytes: int
    inputs: Mapping[str, Buffer]
    """Tensor of the chain, in the order in which the kernel takes the pointers."""
    parameters: tuple[str, ...]
    """What the plugin calls its inputs, in the same order."""
    integers: tuple[Size, ...]
    outputs: Mapping[str, Buffer]
    grid: tuple[Size, Size, Size]

    def values(self, shapes: Sequence[Sequence[Any]]) -> dict[Expression, Any]:
        """Read what is known from the shapes of the inputs, in their order."""
        known: dict[Expression, Any] = {}
        for buffer, shape in zip(self.inputs.values(), shapes, strict=True):
            known = named_axes(buffer.shape, shape) | known
        return known


@dataclass(frozen=True)
class Chain:
    """A fused operator for one dtype and one compute capability. Kernels run in their order."""

    inputs: Mapping[str, Buffer]
    outputs: tuple[str, ...]
    kernels: tuple[PluginKernel, ...]

    def larger_than(self, shared_bytes: int) -> tuple[PluginKernel, ...]:
        """List the kernels that need more shared memory."""
        return tuple(kernel for kernel in self.kernels if kernel.shared_bytes > shared_bytes)


Compiler = Callable[[Plan, Launch, int, int], Compiled]
"""Plan, launch, compute capability and PTX version, to code."""


def compile_plainly(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
    """Compile as `compile_launch` does, into PTX that TensorRT loads: for `sm_90`, not `sm_90a` (see `ptx.py`).

    A kernel with instructions of the one card (wgmma, tcgen05, redux) becomes code for all cards from
    `FORWARD_CAPABILITY` on, which has none of them. Of the result TensorRT uses the PTX and what a launch needs; the
    machine code and its registers are those of the card that the compiler wrote it for.
    """
    compiled = compile_launch(plan, launch, capability, ptx_version)
    plain = widen_target(compiled.ptx)
    if plain == compiled.ptx:
        return compiled
    try:
        assemble(plain, capability)
        return replace(compiled, ptx=plain)
    except KernelError:
        older = compile_launch(plan, launch, FORWARD_CAPABILITY, ptx_version)
        assemble(older.ptx, capability)
        return replace(older, capability=capability)


def build_chain(
    fused: Fused,
    dtype: torch.dtype,
    capability: int,
    ptx_version: int = PTX_VERSION,
    compiler: Compiler = compile_plainly,
) -> Chain:
    """Compile a fused operator into a chain of plugin kernels.

    Args:
        capability: of the GPU that builds and runs the engine. Older GPUs refuse the code; on newer ones it runs.
        ptx_version: 10 x major + minor of the PTX language; no newer than the driver that loads the engine.
    Raises: KernelError when the plan is not one that plugins can run: it names the launch and the reason.
    """
    shapes = {
        name: tuple(Expression("size", axis) if isinstance(axis, str) else axis for axis in shape)
        for name, shape in fused.inputs.items()
    }
    plan = fused.plan(shapes, dtype)
    if set(plan.inputs) != set(shapes):
        raise KernelError(f"{fused.name} describes the inputs {sorted(shapes)}, its plan has {sorted(plan.inputs)}.")
    for name, shape in shapes.items():
        if repr(plan.buffers[name].shape) != repr(shape):
            raise KernelError(f"{fused.name}: input {name} is {shape}, in its plan {plan.buffers[name].shape}.")
    written = set(plan.inputs)
    kernels = []
    for number, launch in enumerate(plan.launches):
        name = f"{fused.name}_{ELEMENT_NAMES[dtype]}_{number}_{launch.name}"
        unwritten, rewritten = set(launch.inputs.values()) - written, set(launch.outputs.values()) & written
        if unwritten or rewritten:
            raise KernelError(
                f"{name} reads {sorted(unwritten)} before and writes {sorted(rewritten)} after others do."
            )
        written |= set(launch.outputs.values())
        kernels.append(_plugin_kernel(name, plan, launch, compiler(plan, launch, capability, ptx_version)))
    return Chain({name: plan.buffers[name] for name in plan.inputs}, plan.outputs, tuple(kernels))


def _plugin_kernel(name: str, plan: Plan, launch: Launch, compiled: Compiled) -> PluginKernel:
    declared = list(launch.kernel.arg_names)
    inputs = {parameter: launch.inputs[parameter] for parameter in declared if parameter in launch.inputs}
    outputs = [launch.outputs[parameter] for parameter in declared if parameter in launch.outputs]
    integers = tuple(launch.integers[parameter] for parameter in declared if parameter in launch.integers)
    if compiled.scratch_bytes:
        raise KernelError(
            f"{name} needs {compiled.scratch_bytes} bytes of device memory that TensorRT does not give it."
        )
    if len(set(inputs.values())) < len(inputs):
        raise KernelError(f"{name} takes one tensor twice: {inputs}.")
    known: dict[Expression, Any] = {}
    for tensor in inputs.values():
        known |= named_axes(plan.buffers[tensor].shape, plan.buffers[tensor].shape)
    needed = [*launch.grid, *integers, *(axis for tensor in outputs for axis in plan.buffers[tensor].shape)]
    shape_inputs: dict[str, str] = {}
    for size in needed:
        for missing in unknown(size, known):
            tensor = next(
                name
                for name in plan.inputs
                if missing in named_axes(plan.buffers[name].shape, plan.buffers[name].shape)
            )
            shape_inputs[f"shape_of_{tensor}"] = tensor
            known |= named_axes(plan.buffers[tensor].shape, plan.buffers[tensor].shape)
    ptx = strip_scratch(compiled.ptx, len(inputs) + len(integers) + len(outputs))
    tensors = inputs | shape_inputs
    kernel = PluginKernel(
        name=name,
        function=launch.name,
        ptx=add_unused_pointers(ptx, len(inputs), len(shape_inputs)),
        block_threads=block_threads(ptx, compiled.num_warps),
        shared_bytes=compiled.shared_bytes,
        inputs={tensor: plan.buffers[tensor] for tensor in tensors.values()},
        parameters=tuple(tensors),
        integers=integers,
        outputs={tensor: plan.buffers[tensor] for tensor in outputs},
        grid=launch.grid,
    )
    digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:DIGEST_CHARACTERS]
    unique = f"{name}_{digest}"
    return replace(kernel, name=unique, ptx=rename_entry(kernel.ptx, unique))

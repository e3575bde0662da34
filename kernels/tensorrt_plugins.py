"""Fused operators as plugins of TensorRT that need no Python when the engine runs.

TensorRT (10.7 or newer, `tensorrt.plugin`) takes the PTX of one kernel, its grid as expressions over the input shapes
and its integer arguments, and writes them into the engine. One such plugin is one kernel launch, so a plan becomes a
chain of plugins, one a launch, whose scratch buffers are plugin outputs.

The plan is built once, with sizes that record what is computed from them; TensorRT's own symbolic integers are put in
when it asks. A launch sees the shapes of its own inputs only. Where its grid depends on another size, a tensor that has
this size as an axis becomes one more input, and its pointer an unused parameter of the kernel.

Source  NVIDIA's `tensorrt.plugin` of TensorRT 11.4 (its Python is in the bindings wheel) and the sample
        `quickly_deployable_plugins`: a kernel gets inputs, extra integers, outputs, and nothing else; an extra argument
        must be a `SymInt32`; expressions know +, -, * and // with themselves or an integer on the right.

Not known without a GPU that runs TensorRT: whether it allows a kernel more than 48 KB of shared memory at launch.
Nothing public says so, hence `register` refuses such kernels unless told otherwise.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

import torch

from kernels.compilation import Compiled, compile_launch
from kernels.errors import KernelError
from kernels.launch import ELEMENT_NAMES, Buffer, Launch, Plan, Size
from kernels.occupancy import WARP_SIZE

NAMESPACE = "auralsam2"
PTX_VERSION = 87
"""PTX 8.7, of CUDA 12.8: the oldest that knows sm_120. A driver loads PTX no newer than itself."""
PLAIN_SHARED_BYTES = 48 * 1024
"""What every kernel may ask for; more has to be allowed by whoever launches it."""
TENSORRT_TYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

ENTRY = re.compile(r"(?P<head>.*\.visible \.entry (?P<name>\w+)\()(?P<parameters>[^)]*)(?P<tail>\).*)", re.DOTALL)
THREADS = re.compile(r"^\.reqntid (\d+)", re.MULTILINE)
CLUSTER = re.compile(r"^\.(explicitcluster|reqnctapercluster|maxclusterrank)", re.MULTILINE)


class Expression:
    """A whole number computed from named sizes with +, -, * and //. Anything else that a plan tries on it raises."""

    def __init__(self, operation: str, *operands: Any) -> None:
        # a * b and b * a are one number, and are to be found as one.
        self.operation = operation
        self.operands = tuple(sorted(operands, key=repr)) if operation in ("+", "*") else operands

    def __add__(self, other: Size) -> "Expression":
        return Expression("+", self, other)

    def __mul__(self, other: Size) -> "Expression":
        return Expression("*", self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Size) -> "Expression":
        return Expression("-", self, other)

    def __rsub__(self, other: Size) -> "Expression":
        return Expression("-", other, self)

    def __floordiv__(self, other: Size) -> "Expression":
        return Expression("//", self, other)

    def __rfloordiv__(self, other: Size) -> "Expression":
        return Expression("//", other, self)

    def __repr__(self) -> str:
        if self.operation == "size":
            return str(self.operands[0])
        return f"({f' {self.operation} '.join(map(repr, self.operands))})"

    def __hash__(self) -> int:
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            raise KernelError(f"a plan compares the size {self} with {other!r}; it is known when the engine runs only.")
        return repr(self) == repr(other)

    def __bool__(self) -> bool:
        raise KernelError(f"a plan asks whether the size {self} is zero; it is known when the engine runs only.")


Values = Mapping[Expression, Any]


def evaluate(size: Size, values: Values, lift: Callable[[int], Any] = int) -> Any:
    """`size` with numbers, or TensorRT's symbolic integers, for what `values` holds.

    Args:
        values: named sizes, and whole expressions that some axis is known to have.
        lift: makes an integer into what `values` holds; TensorRT's integers take plain ones on their right only.
    Raises: KernelError for a named size without a value.
    """
    if not isinstance(size, Expression):
        return size
    if size in values:
        return values[size]
    if size.operation == "size":
        raise KernelError(f"the size {size} has no value here; known are {', '.join(map(repr, values))}.")
    left, right = (evaluate(operand, values, lift) for operand in size.operands)
    if isinstance(left, int) and not isinstance(right, int):
        left = lift(left)
    return {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "//": lambda: left // right,
    }[size.operation]()


def _unknown(size: Size, values: Values) -> list[Expression]:
    """The named sizes that `evaluate` would miss."""
    if not isinstance(size, Expression) or size in values:
        return []
    if size.operation == "size":
        return [size]
    return [name for operand in size.operands for name in _unknown(operand, values)]


def _axes(shape: Sequence[Size], given: Sequence[Any]) -> dict[Expression, Any]:
    return {axis: value for axis, value in zip(shape, given, strict=True) if isinstance(axis, Expression)}


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
    entry: str
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
        """What is known from the shapes of the inputs, in their order."""
        known: dict[Expression, Any] = {}
        for buffer, shape in zip(self.inputs.values(), shapes, strict=True):
            known = _axes(buffer.shape, shape) | known
        return known


@dataclass(frozen=True)
class Chain:
    """A fused operator for one dtype and one compute capability. Kernels run in their order."""

    inputs: Mapping[str, Buffer]
    outputs: tuple[str, ...]
    kernels: tuple[PluginKernel, ...]


def build_chain(
    fused: Fused,
    dtype: torch.dtype,
    capability: int,
    ptx_version: int = PTX_VERSION,
    compiler: Callable[[Plan, Launch, int, int], Compiled] = compile_launch,
) -> Chain:
    """Compile a fused operator into a chain of plugin kernels.

    Args:
        capability: of the GPU that builds and runs the engine; PTX of 90 and above runs on no other.
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
        known |= _axes(plan.buffers[tensor].shape, plan.buffers[tensor].shape)
    needed = [*launch.grid, *integers, *(axis for tensor in outputs for axis in plan.buffers[tensor].shape)]
    shape_inputs: dict[str, str] = {}
    for size in needed:
        for missing in _unknown(size, known):
            tensor = next(
                name for name in plan.inputs if missing in _axes(plan.buffers[name].shape, plan.buffers[name].shape)
            )
            shape_inputs[f"shape_of_{tensor}"] = tensor
            known |= _axes(plan.buffers[tensor].shape, plan.buffers[tensor].shape)
    ptx = strip_scratch(compiled.ptx, len(inputs) + len(integers) + len(outputs))
    tensors = inputs | shape_inputs
    return PluginKernel(
        name=name,
        entry=compiled.entry,
        ptx=add_unused_pointers(ptx, len(inputs), len(shape_inputs)),
        block_threads=block_threads(ptx, compiled.num_warps),
        shared_bytes=compiled.shared_bytes,
        inputs={tensor: plan.buffers[tensor] for tensor in tensors.values()},
        parameters=tuple(tensors),
        integers=integers,
        outputs={tensor: plan.buffers[tensor] for tensor in outputs},
        grid=launch.grid,
    )


def _entry(ptx: str) -> tuple[str, str, list[str], str]:
    """The text before the parameters of the only entry, its name, the declarations, and the text after them."""
    found = ENTRY.fullmatch(ptx)
    if not found or ptx.count(".entry ") != 1:
        raise KernelError("PTX of a kernel has one .visible .entry; this has none or several.")
    parameters = [line.strip() for line in found["parameters"].split(",")]
    return found["head"], found["name"], [line for line in parameters if line], found["tail"]


def parameters(ptx: str) -> list[str]:
    """The parameter declarations of a kernel's PTX, as written, such as `.param .u32 mix_param_2`."""
    return _entry(ptx)[2]


def _with_parameters(ptx: str, declarations: Sequence[str]) -> str:
    head, _, _, tail = _entry(ptx)
    return head + ",".join(f"\n\t{declaration}" for declaration in declarations) + "\n" + tail


def strip_scratch(ptx: str, num_parameters: int) -> str:
    """PTX with the entry's first `num_parameters` parameters only.

    The Triton compiler appends two pointers to every entry, to scratch and to profiling memory, that its own launcher
    passes. They are removed after a look at the code, which must name none of them.

    Raises: KernelError when the code uses what would be removed, or when there are fewer parameters than that.
    """
    _, name, declared, tail = _entry(ptx)
    if len(declared) < num_parameters:
        raise KernelError(f"{name} has {len(declared)} parameters in PTX, its launch {num_parameters}.")
    for declaration in declared[num_parameters:]:
        parameter = declaration.split()[-1]
        if ".u64" not in declaration or re.search(rf"\b{re.escape(parameter)}\b", tail):
            raise KernelError(f"{name} uses its parameter {parameter}, which TensorRT does not pass.")
    return _with_parameters(ptx, declared[:num_parameters])


def add_unused_pointers(ptx: str, place: int, count: int) -> str:
    """PTX whose entry takes `count` more pointers before its parameter number `place`, and does nothing with them."""
    _, name, declared, _ = _entry(ptx)
    unused = [f".param .u64 .ptr .global .align 1 {name}_unused_{number}" for number in range(count)]
    return _with_parameters(ptx, [*declared[:place], *unused, *declared[place:]])


def block_threads(ptx: str, num_warps: int) -> int:
    """Threads a block, as the PTX demands them.

    Raises: KernelError when they are not those of `num_warps`, or when blocks come in clusters.
    """
    if CLUSTER.search(ptx):
        raise KernelError("the kernel wants its blocks in clusters; TensorRT launches single blocks.")
    demanded = THREADS.findall(ptx)
    if demanded != [str(num_warps * WARP_SIZE)]:
        raise KernelError(f"PTX demands {demanded} threads a block; {num_warps} warps have {num_warps * WARP_SIZE}.")
    return num_warps * WARP_SIZE


def _tensorrt() -> tuple[Any, Any]:
    try:
        import tensorrt
        import tensorrt.plugin as plugin
    except ImportError as error:
        raise KernelError(f"plugins need the tensorrt package, 10.7 or newer: {error}.") from error
    if not hasattr(plugin, "KernelLaunchParams"):
        raise KernelError(f"TensorRT {tensorrt.__version__} has no ahead-of-time plugins; install 10.7 or newer.")
    return tensorrt, plugin


def register(chain: Chain, *, large_shared_memory: bool = False) -> None:
    """Register every kernel of `chain` with TensorRT, as `auralsam2::<its name>`, for tensors in linear layout.

    Args:
        large_shared_memory: register kernels with more than 48 KB of shared memory too. Untested: TensorRT may fail to
            launch them.
    Raises: KernelError without TensorRT, for a name that is taken, for a kernel that needs `large_shared_memory`.
    """
    tensorrt, plugin = _tensorrt()
    large = [kernel for kernel in chain.kernels if kernel.shared_bytes > PLAIN_SHARED_BYTES]
    if large and not large_shared_memory:
        needs = ", ".join(f"{kernel.name} needs {kernel.shared_bytes}" for kernel in large)
        raise KernelError(
            f"{needs} bytes of shared memory; up to {PLAIN_SHARED_BYTES} launch everywhere. "
            "Choose smaller blocks, or pass large_shared_memory=True and test the engine."
        )
    for kernel in chain.kernels:
        _register_kernel(kernel, tensorrt, plugin)


def _register_kernel(kernel: PluginKernel, tensorrt: Any, plugin: Any) -> None:
    def describe(*inputs: Any) -> tuple[Any, ...]:
        _check_inputs(kernel, inputs, tensorrt)
        values = kernel.values([description.shape_expr for description in inputs])
        return tuple(
            plugin.from_shape_expr(
                tuple(evaluate(axis, values, plugin.ShapeExpr) for axis in buffer.shape),
                getattr(tensorrt, TENSORRT_TYPES[buffer.dtype]),
            )
            for buffer in kernel.outputs.values()
        )

    def implement(*arguments: Any) -> tuple[Any, ...]:
        inputs = arguments[: len(kernel.inputs)]
        values = kernel.values([description.shape_expr for description in inputs])
        launch = plugin.KernelLaunchParams()
        launch.grid_x, launch.grid_y, launch.grid_z = (evaluate(size, values, plugin.ShapeExpr) for size in kernel.grid)
        launch.block_x = kernel.block_threads
        launch.shared_mem = kernel.shared_bytes
        extra = plugin.SymIntExprs(len(kernel.integers))
        for place, size in enumerate(kernel.integers):
            extra[place] = plugin.SymInt32(evaluate(size, values, plugin.ShapeExpr))
        return kernel.entry, kernel.ptx, launch, extra

    described = GenericAlias(tuple, (plugin.TensorDesc,) * len(kernel.outputs))
    implemented = GenericAlias(tuple, (str, str, plugin.KernelLaunchParams, plugin.SymIntExprs))
    tensors = dict.fromkeys(kernel.parameters, plugin.TensorDesc)
    _sign(describe, kernel.name, tensors, described)
    _sign(implement, kernel.name, {**tensors, "outputs": described, "tactic": int}, implemented)
    identity = f"{NAMESPACE}::{kernel.name}"
    try:
        plugin.register(identity)(describe)
        plugin.aot_impl(identity)(implement)
    except ValueError as error:
        raise KernelError(f"TensorRT does not take the plugin {identity}: {error}") from error


def _sign(function: Any, name: str, annotations: Mapping[str, Any], returned: Any) -> None:
    """Give a function the signature that TensorRT reads the plugin's inputs and outputs from."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(parameter, kind, annotation=kept) for parameter, kept in annotations.items()]
    function.__name__ = name
    function.__signature__ = inspect.Signature(named, return_annotation=returned)


def _check_inputs(kernel: PluginKernel, inputs: Sequence[Any], tensorrt: Any) -> None:
    for (name, buffer), given in zip(kernel.inputs.items(), inputs, strict=True):
        if given.dtype != getattr(tensorrt, TENSORRT_TYPES[buffer.dtype]):
            raise KernelError(f"{kernel.name}: {name} is {given.dtype}; compiled for {TENSORRT_TYPES[buffer.dtype]}.")
        if len(given.shape_expr) != len(buffer.shape):
            raise KernelError(f"{kernel.name}: {name} has {len(given.shape_expr)} axes; it must be {buffer.shape}.")
        for axis, expected in zip(given.shape_expr, buffer.shape, strict=True):
            # Fake: TensorRT asks for types only, no shape is known yet.
            if isinstance(expected, Expression) or axis.is_fake or not axis.is_constant:
                continue
            if axis.constant_value() != expected:
                raise KernelError(
                    f"{kernel.name}: {name} has {axis.constant_value()} where {buffer.shape} is compiled."
                )


def add_to_network(network: Any, chain: Chain, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Append a registered chain to a network under construction.

    Args:
        network: tensorrt.INetworkDefinition.
        tensors: the chain's inputs by name, weights included.
    Returns: the chain's outputs by name.
    """
    _, plugin = _tensorrt()
    operators = getattr(plugin.op, NAMESPACE)
    held = dict(tensors)
    for kernel in chain.kernels:
        creation = getattr(operators, kernel.name)(*(held[name] for name in kernel.inputs))
        layer = network.add_plugin(creation, aot=True)
        held |= {name: layer.get_output(place) for place, name in enumerate(kernel.outputs)}
    return {name: held[name] for name in chain.outputs}

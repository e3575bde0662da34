"""Chains of plugin kernels, registered with TensorRT.

TensorRT (10.7 or newer, `tensorrt.plugin`) takes the PTX of one kernel, its grid as expressions over the input shapes
and its integer arguments, and writes them into the engine. Registering a name again changes nothing.

Source  NVIDIA's `tensorrt.plugin` of TensorRT 11.4 (its Python is in the bindings wheel) and the sample
        `quickly_deployable_plugins`: a kernel gets inputs, extra integers, outputs, and nothing else; an extra argument
        must be a `SymInt32`; expressions know +, -, * and // with themselves or an integer on the right.

More than 48 KB of shared memory must be allowed by whoever launches a kernel. Stability AI's `stable-audio-3` reports
that TensorRT 10.15 does not: 40 KB ran there, 64 KB failed when the engine ran. Hence `register` refuses such kernels
unless told otherwise.
"""

import inspect
from collections.abc import Mapping, Sequence
from types import GenericAlias
from typing import Any

import torch

from kernels.launching.errors import KernelError
from kernels.plugins.chains import NAMESPACE, PLAIN_SHARED_BYTES, Chain, PluginKernel
from kernels.plugins.symbolic_sizes import Expression, evaluate

TENSORRT_TYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


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

    Those that are registered already stay as they are.

    Args:
        large_shared_memory: register kernels with more than 48 KB of shared memory too; see the head of this module.
    Raises: KernelError without TensorRT, for a kernel that TensorRT refuses or that needs `large_shared_memory`.
    """
    tensorrt, plugin = _tensorrt()
    large = chain.larger_than(PLAIN_SHARED_BYTES)
    if large and not large_shared_memory:
        needs = ", ".join(f"{kernel.name} needs {kernel.shared_bytes}" for kernel in large)
        raise KernelError(
            f"{needs} bytes of shared memory; up to {PLAIN_SHARED_BYTES} launch everywhere. "
            "Choose smaller blocks, or pass large_shared_memory=True and test the engine."
        )
    known = getattr(plugin.op, NAMESPACE, None)
    for kernel in chain.kernels:
        if not hasattr(known, kernel.name):
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
        return kernel.name, kernel.ptx, launch, extra

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

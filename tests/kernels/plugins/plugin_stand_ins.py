"""Stand-ins for TensorRT and for the Triton compiler, where plugins are tested without either.

Rules of the double are those of NVIDIA's `tensorrt.plugin` 11.4: what `register` and `aot_impl` accept as signatures,
expressions that take no integer on their left, extra arguments that must be SymInt32, launch parameters of seven names.
It builds no engine.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from kernels.compilation import Compiled
from kernels.launching.launch import Launch, Plan


def text(name: str, num_pointers_and_integers: Sequence[str], num_threads: int, body: str = "ret;") -> str:
    """PTX as the Triton compiler writes it, scratch pointers included."""
    kinds = {"p": ".u64 .ptr .global .align 1", "i": ".u32"}
    declared = [
        f"\t.param {kinds[kind]} {name}_param_{n}" for n, kind in enumerate([*num_pointers_and_integers, "p", "p"])
    ]
    lines = [".version 8.7", ".target sm_80", ".address_size 64", f".visible .entry {name}(", ",\n".join(declared)]
    return "\n".join([*lines, ")", f".reqntid {num_threads}", "{", body, "}", ""])


def pretend_to_compile(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
    """No compiler in the tests' own process; what it would say."""
    kinds = ["p"] * len(launch.inputs) + ["i"] * len(launch.integers) + ["p"] * len(launch.outputs)
    return Compiled(
        name=launch.name,
        capability=capability,
        entry=launch.name,
        ptx=text(launch.name, kinds, 32 * launch.num_warps),
        cubin=b"",
        num_warps=launch.num_warps,
        shared_bytes=1024 * launch.num_warps,
        tensor_memory_columns=0,
        scratch_bytes=0,
        registers=32,
        spill_stores=0,
        spill_loads=0,
        stack_bytes=0,
        tensor_core_instructions=0,
        local_memory_instructions=0,
        uses_dot=False,
        seconds=0.0,
    )


class Symbol:
    """TensorRT's ShapeExpr: it computes nothing, and an integer on its left is a TypeError."""

    def __init__(self, value: Any = None, size: Callable[[Mapping[str, int]], int] | None = None) -> None:
        self.is_fake = value is None and size is None
        self.value = value
        self.size = size if size else lambda sizes: value

    def at(self, sizes: Mapping[str, int]) -> int:
        return self.size(sizes)

    @property
    def is_constant(self) -> bool:
        assert not self.is_fake, "the real one raises RuntimeError"
        return isinstance(self.value, int)

    def constant_value(self) -> int:
        assert self.is_constant
        return int(self.value)

    def _with(self, other: Any, operation: Callable[[int, int], int]) -> "Symbol":
        assert isinstance(other, int | Symbol)
        right = other if isinstance(other, Symbol) else Symbol(other)
        if self.is_fake or right.is_fake:
            return Symbol()
        return Symbol(size=lambda sizes: operation(self.at(sizes), right.at(sizes)))

    def __add__(self, other: Any) -> "Symbol":
        return self._with(other, lambda left, right: left + right)

    def __sub__(self, other: Any) -> "Symbol":
        return self._with(other, lambda left, right: left - right)

    def __mul__(self, other: Any) -> "Symbol":
        return self._with(other, lambda left, right: left * right)

    def __floordiv__(self, other: Any) -> "Symbol":
        return self._with(other, lambda left, right: left // right)


class SymInt32(Symbol):
    """A kernel argument, or a launch parameter."""

    def __init__(self, value: int | Symbol) -> None:
        super().__init__(size=(lambda sizes: value) if isinstance(value, int) else value.at)


class SymIntExprs:
    """Extra arguments. The real one takes anything and TensorRT refuses later what is no SymInt32."""

    def __init__(self, length: int) -> None:
        self.arguments: list[Any] = [None] * length

    def __setitem__(self, place: int, value: Any) -> None:
        assert isinstance(value, SymInt32)
        self.arguments[place] = value


class KernelLaunchParams:
    def __init__(self) -> None:
        for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"):
            self.__dict__[name] = SymInt32(1)
        self.__dict__["shared_mem"] = SymInt32(0)

    def __setattr__(self, name: str, value: int | Symbol) -> None:
        assert name in self.__dict__
        self.__dict__[name] = SymInt32(value)


@dataclasses.dataclass
class TensorDesc:
    shape_expr: Sequence[Symbol]
    dtype: str


class Registry:
    """`tensorrt` and `tensorrt.plugin`, as far as our module uses them."""

    def __init__(self) -> None:
        self.described: dict[str, Callable[..., Any]] = {}
        self.implemented: dict[str, Callable[..., Any]] = {}
        plugin: Any = ModuleType("tensorrt.plugin")
        plugin.ShapeExpr, plugin.SymInt32, plugin.SymIntExprs = Symbol, SymInt32, SymIntExprs
        plugin.KernelLaunchParams, plugin.TensorDesc = KernelLaunchParams, TensorDesc
        plugin.from_shape_expr = lambda shape, dtype: TensorDesc(
            [axis if isinstance(axis, Symbol) else Symbol(axis) for axis in shape], dtype
        )
        plugin.register, plugin.aot_impl = self.register, self.aot_impl
        plugin.op = SimpleNamespace(auralsam2=SimpleNamespace())
        self.plugin = plugin
        self.package: Any = ModuleType("tensorrt")
        self.package.plugin, self.package.__version__ = plugin, "11.4.0"
        self.package.float32, self.package.float16, self.package.bfloat16 = "FLOAT", "HALF", "BF16"

    def register(self, identity: str) -> Callable[[Any], Any]:
        def keep(function: Any) -> Any:
            namespace, name = identity.split("::")
            if hasattr(self.plugin.op.auralsam2, name):
                raise ValueError(f"already has a definition for '{name}'")
            signature = inspect.signature(function)
            assert namespace == "auralsam2"
            assert all(parameter.annotation is TensorDesc for parameter in signature.parameters.values())
            assert all(parameter.isidentifier() for parameter in signature.parameters)
            assert typing.get_origin(signature.return_annotation) is tuple
            assert set(typing.get_args(signature.return_annotation)) == {TensorDesc}
            self.described[identity] = function
            setattr(self.plugin.op.auralsam2, name, lambda *tensors: (name, tensors))
            return function

        return keep

    def aot_impl(self, identity: str) -> Callable[[Any], Any]:
        def keep(function: Any) -> Any:
            described, signature = inspect.signature(self.described[identity]), inspect.signature(function)
            assert list(signature.parameters) == [*described.parameters, "outputs", "tactic"]
            assert signature.parameters["outputs"].annotation == described.return_annotation
            assert signature.parameters["tactic"].annotation is int
            returned = typing.get_args(signature.return_annotation)
            assert returned == (str, str, KernelLaunchParams, SymIntExprs)
            self.implemented[identity] = function
            return function

        return keep


def named(name: str) -> Symbol:
    return Symbol(size=lambda sizes: sizes[name])

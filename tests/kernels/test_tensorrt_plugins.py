"""Plans as chains of TensorRT plugins: our side of the contract, without TensorRT.

`tensorrt` is played by a double of this file. Its rules are those of NVIDIA's `tensorrt.plugin` 11.4: what `register`
and `aot_impl` accept as signatures, expressions that take no integer on their left, extra arguments that must be
SymInt32, launch parameters of seven names. It builds no engine. The last test asks the real package where there is one.
"""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

import triton.language as tl  # noqa: E402

from kernels import tensorrt_plugins as plugins  # noqa: E402
from kernels.compilation import Compiled  # noqa: E402
from kernels.errors import KernelError  # noqa: E402
from kernels.launch import Buffer, Launch, Plan, Size, cdiv  # noqa: E402

CAPABILITIES = (80, 86, 89, 90, 100, 120)
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


MEAN = plugins.Fused("mean", {"x": ("T", "P", CHANNELS), "weight": (CHANNELS, CHANNELS)}, mean_plan)


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


def mean_chain(compiler: Callable[..., Compiled] = pretend_to_compile) -> plugins.Chain:
    return plugins.build_chain(MEAN, torch.float16, 80, compiler=compiler)


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


class Network:
    """INetworkDefinition: remembers which plugin was fed with which tensors. Tensors are names."""

    def __init__(self) -> None:
        self.layers: list[tuple[str, tuple[str, ...], bool]] = []

    def add_plugin(self, creation: tuple[str, tuple[str, ...]], aot: bool = False) -> Any:
        number = len(self.layers)
        self.layers.append((*creation, aot))
        return SimpleNamespace(get_output=lambda place: f"layer {number} output {place}")


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


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    double = Registry()
    monkeypatch.setitem(sys.modules, "tensorrt", double.package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", double.plugin)
    return double


def named(name: str) -> Symbol:
    return Symbol(size=lambda sizes: sizes[name])


def described_mean_inputs() -> dict[str, TensorDesc]:
    return {
        "x": TensorDesc([named("T"), named("P"), Symbol(CHANNELS)], "HALF"),
        "weight": TensorDesc([Symbol(CHANNELS), Symbol(CHANNELS)], "HALF"),
    }


SIZES = [{"T": 5, "P": 4096}, {"T": 1, "P": 1}, {"T": 3, "P": 77}, {"T": 10, "P": 33}]


@pytest.mark.parametrize("sizes", SIZES)
def test_plugins_compute_what_the_integer_plan_does(registry: Registry, sizes: dict[str, int]) -> None:
    chain = mean_chain()
    plugins.register(chain)
    plan = mean_plan({"x": (sizes["T"], sizes["P"], CHANNELS), "weight": (CHANNELS, CHANNELS)}, torch.float16)
    types = {torch.float16: "HALF", torch.float32: "FLOAT"}
    tensors = described_mean_inputs()
    for kernel, launch in zip(chain.kernels, plan.launches, strict=True):
        identity = f"auralsam2::{kernel.name}"
        inputs = [tensors[name] for name in kernel.inputs]
        outputs = registry.described[identity](*inputs)
        tensors |= dict(zip(kernel.outputs, outputs, strict=True))
        for name, output in zip(kernel.outputs, outputs, strict=True):
            assert tuple(axis.at(sizes) for axis in output.shape_expr) == plan.buffers[name].shape
            assert output.dtype == types[plan.buffers[name].dtype]
        entry, ptx, launched, extra = registry.implemented[identity](*inputs, outputs, 0)
        assert entry == launch.name
        assert f".visible .entry {entry}(" in ptx
        assert tuple(getattr(launched, f"grid_{axis}").at(sizes) for axis in "xyz") == launch.grid
        assert launched.block_x.at(sizes) == 32 * launch.num_warps
        assert launched.block_y.at(sizes) == launched.block_z.at(sizes) == 1
        assert launched.shared_mem.at(sizes) == 1024 * launch.num_warps
        order = [name for name in launch.kernel.arg_names if name in launch.integers]
        assert [value.at(sizes) for value in extra.arguments] == [launch.integers[name] for name in order]


def test_types_are_described_before_shapes_are_known(registry: Registry) -> None:
    chain = mean_chain()
    plugins.register(chain)
    fake = [TensorDesc([Symbol()] * 3, "HALF"), TensorDesc([Symbol()] * 2, "HALF")]
    (sums,) = registry.described["auralsam2::mean_fp16_0_block_sums"](*fake)
    assert sums.dtype == "FLOAT"
    assert len(sums.shape_expr) == 3


def test_a_size_that_no_own_input_shows_comes_with_one_more_input(registry: Registry) -> None:
    sums, mean = mean_chain().kernels
    assert list(sums.inputs) == ["x", "weight"]
    assert sums.parameters == ("x_ptr", "weight_ptr")
    assert list(mean.inputs) == ["sums", "x"]
    assert mean.parameters == ("sums_ptr", "shape_of_x")
    declared = [declaration.split()[1:3:1] for declaration in plugins.parameters(mean.ptx)]
    assert [kind[0] for kind in declared] == [".u64", ".u64", ".u32", ".u32", ".u64"]
    assert plugins.parameters(mean.ptx)[1].endswith("clip_mean_unused_0")


def test_a_network_gets_the_chain(registry: Registry) -> None:
    chain = mean_chain()
    plugins.register(chain)
    network = Network()
    outputs = plugins.add_to_network(network, chain, {"x": "X", "weight": "W"})
    assert network.layers == [
        ("mean_fp16_0_block_sums", ("X", "W"), True),
        ("mean_fp16_1_clip_mean", ("layer 0 output 0", "X"), True),
    ]
    assert outputs == {"mean": "layer 1 output 0"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "FLOAT"}, "x is FLOAT; compiled for float16"),
        ({"shape_expr": [named("T"), Symbol(CHANNELS)]}, "x has 2 axes"),
        ({"shape_expr": [named("T"), named("P"), Symbol(96)]}, r"x has 96 where \(T, P, 64\) is compiled"),
    ],
)
def test_tensors_that_the_kernel_was_not_compiled_for(registry: Registry, wrong: Any, message: str) -> None:
    plugins.register(mean_chain())
    tensors = described_mean_inputs()
    x = dataclasses.replace(tensors["x"], **wrong)
    with pytest.raises(KernelError, match=message):
        registry.described["auralsam2::mean_fp16_0_block_sums"](x, tensors["weight"])


def test_a_name_is_registered_once(registry: Registry) -> None:
    plugins.register(mean_chain())
    with pytest.raises(KernelError, match="does not take the plugin auralsam2::mean_fp16_0_block_sums: already"):
        plugins.register(mean_chain())


def test_large_shared_memory_is_asked_for_by_name(registry: Registry) -> None:
    def large(*arguments: Any) -> Compiled:
        return dataclasses.replace(pretend_to_compile(*arguments), shared_bytes=48 * 1024 + 16)

    with pytest.raises(
        KernelError, match="mean_fp16_0_block_sums needs 49168, mean_fp16_1_clip_mean needs 49168 bytes"
    ):
        plugins.register(mean_chain(large))
    assert not registry.described
    plugins.register(mean_chain(large), large_shared_memory=True)
    assert len(registry.described) == 2


def test_without_tensorrt_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(KernelError, match=r"plugins need the tensorrt package, 10\.7 or newer"):
        plugins.register(mean_chain())


def test_a_tensorrt_without_such_plugins_is_named(registry: Registry) -> None:
    del registry.plugin.KernelLaunchParams
    with pytest.raises(KernelError, match=r"TensorRT 11\.4\.0 has no ahead-of-time plugins"):
        plugins.register(mean_chain())


def changed_plan(**changes: Any) -> Callable[..., Plan]:
    """The mean's plan with a field of its second launch replaced."""

    def build(shapes: Mapping[str, tuple[Size, ...]], dtype: torch.dtype) -> Plan:
        plan = mean_plan(shapes, dtype)
        first, second = plan.launches
        return dataclasses.replace(plan, launches=(first, dataclasses.replace(second, **changes)))

    return build


@pytest.mark.parametrize(
    ("fused", "message"),
    [
        (dataclasses.replace(MEAN, inputs={"x": ("T", "P", CHANNELS)}), r"describes the inputs \['x'\]"),
        (dataclasses.replace(MEAN, inputs={**MEAN.inputs, "weight": (CHANNELS, 1)}), "input weight is"),
        (dataclasses.replace(MEAN, plan=changed_plan(inputs={"sums_ptr": "mean"})), r"reads \['mean'\] before"),
        (dataclasses.replace(MEAN, plan=changed_plan(outputs={"mean_ptr": "x"})), r"writes \['x'\] after"),
    ],
)
def test_plans_that_plugins_cannot_run(fused: plugins.Fused, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        plugins.build_chain(fused, torch.float16, 80, compiler=pretend_to_compile)


def test_scratch_memory_is_refused() -> None:
    def scratching(*arguments: Any) -> Compiled:
        return dataclasses.replace(pretend_to_compile(*arguments), scratch_bytes=128)

    with pytest.raises(KernelError, match="needs 128 bytes of device memory"):
        mean_chain(scratching)


T, P = plugins.Expression("size", "T"), plugins.Expression("size", "P")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (cdiv(T * P, 64), (3 * 77 + 63) // 64),
        (4 * T - 1, 11),
        (100 - P, 23),
        (1000 // P + T, 15),
        ((T + P) * (P - T), 80 * 74),
        (7, 7),
    ],
)
def test_expressions(size: Size, expected: int) -> None:
    sizes = {"T": 3, "P": 77}
    assert plugins.evaluate(size, {T: 3, P: 77}) == expected
    symbolic = plugins.evaluate(size, {T: named("T"), P: named("P")}, Symbol)
    assert (symbolic.at(sizes) if isinstance(symbolic, Symbol) else symbolic) == expected


def test_a_known_product_stands_for_its_factors() -> None:
    assert plugins.evaluate(cdiv(P * T, 4), {T * P: 30}) == 8
    with pytest.raises(KernelError, match=r"the size T has no value here; known are \(P \* T\)"):
        plugins.evaluate(T + 1, {T * P: 30})


@pytest.mark.parametrize("attempt", [lambda: T == 3, lambda: T != 3, lambda: bool(T)])
def test_decisions_on_sizes_are_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(KernelError, match="it is known when the engine runs only"):
        attempt()


@pytest.mark.parametrize("attempt", [lambda: T < 3, lambda: T % 4, lambda: range(T), lambda: T / 2, lambda: int(T)])
def test_other_operations_do_not_exist(attempt: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        attempt()


def test_scratch_parameters_are_stripped_when_unused() -> None:
    ptx = text("mix", "ppip", 128, "ld.param.b64 %rd1, [mix_param_3];")
    stripped = plugins.strip_scratch(ptx, 4)
    assert [line.split()[-1] for line in plugins.parameters(stripped)] == [f"mix_param_{n}" for n in range(4)]
    assert stripped.partition(")")[2] == ptx.partition(")")[2]
    assert plugins.strip_scratch(stripped, 4) == stripped
    with pytest.raises(KernelError, match="mix uses its parameter mix_param_3"):
        plugins.strip_scratch(ptx, 3)
    with pytest.raises(KernelError, match="mix has 6 parameters in PTX, its launch 7"):
        plugins.strip_scratch(ptx, 7)
    # A name that only begins alike is another name.
    alike = text("mix", "p", 128, "call mix_param_1_helper;")
    assert len(plugins.parameters(plugins.strip_scratch(alike, 1))) == 1
    with pytest.raises(KernelError, match="mix_param_2"):
        plugins.strip_scratch(text("mix", "pp", 128, "ld.param.b64 %rd1, [mix_param_2];"), 2)
    with pytest.raises(KernelError, match=r"has one \.visible \.entry"):
        plugins.strip_scratch(ptx + ptx, 4)


def test_threads_are_those_of_the_ptx() -> None:
    assert plugins.block_threads(text("mix", "p", 128), 4) == 128
    with pytest.raises(KernelError, match=r"demands \['256'\] threads a block; 4 warps have 128"):
        plugins.block_threads(text("mix", "p", 256), 4)
    with pytest.raises(KernelError, match="in clusters"):
        plugins.block_threads(text("mix", "p", 128).replace("{", ".reqnctapercluster 2\n{"), 4)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled_chains_assemble_with_the_parameters_of_tensorrt(repository_root: Path, capability: int) -> None:
    code = f"""
import dataclasses, json, torch
import test_tensorrt_plugins as tests
from kernels import tensorrt_plugins as plugins
from kernels.compilation import assemble, compile_launch
whole = []
def compiler(*arguments):
    whole.append(compile_launch(*arguments))
    return whole[-1]
chain = plugins.build_chain(tests.MEAN, torch.float16, {capability}, compiler=compiler)
print(json.dumps([
    dict(ptx=kernel.ptx, parameters=plugins.parameters(kernel.ptx), own=plugins.parameters(compiled.ptx),
         threads=kernel.block_threads, shared=kernel.shared_bytes,
         stripped=assemble(kernel.ptx, {capability}), unstripped=assemble(compiled.ptx, {capability}))
    for kernel, compiled in zip(chain.kernels, whole)
]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(repository_root), str(Path(__file__).parent)])
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    sums, mean = json.loads(result.stdout)
    for kernel, kinds in ((sums, "ppiip"), (mean, "ppiip")):
        expected = [".u64" if kind == "p" else ".u32" for kind in kinds]
        assert [declaration.split()[1] for declaration in kernel["parameters"]] == expected
        assert kernel["stripped"] == kernel["unstripped"]
        assert ".version 8.7" in kernel["ptx"]
    # The compiler's own: two scratch pointers more, and no pointer for the shape of x.
    assert sums["own"][:5] == sums["parameters"]
    assert (len(sums["own"]), len(mean["own"])) == (7, 6)
    assert mean["parameters"][1].endswith("clip_mean_unused_0")
    assert (sums["threads"], mean["threads"]) == (128, 32)
    assert sums["shared"] > 0


def test_the_real_tensorrt_takes_the_signatures() -> None:
    pytest.importorskip("tensorrt", reason="TensorRT needs NVIDIA's own package index and libraries")
    plugins.register(mean_chain())
    import tensorrt.plugin as plugin

    assert hasattr(plugin.op.auralsam2, "mean_fp16_0_block_sums")

"""Plans as chains of TensorRT plugins: our side of the contract, without TensorRT.

`tensorrt` is played by a double; the last test asks the real package where there is one.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

import triton.language as tl  # noqa: E402

from kernels import tensorrt_plugins as plugins  # noqa: E402
from kernels.compilation import Compiled  # noqa: E402
from kernels.errors import KernelError  # noqa: E402
from kernels.launch import Buffer, Launch, Plan, Size, cdiv  # noqa: E402
from kernels.ptx import parameters  # noqa: E402
from tests.kernels.plugin_stand_ins import (  # noqa: E402
    Registry,
    Symbol,
    TensorDesc,
    named,
    pretend_to_compile,
    text,
)
from tests.kernels.toy_kernels import run_apart  # noqa: E402

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


def mean_chain(compiler: Callable[..., Compiled] = pretend_to_compile) -> plugins.Chain:
    return plugins.build_chain(MEAN, torch.float16, 80, compiler=compiler)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    double = Registry()
    monkeypatch.setitem(sys.modules, "tensorrt", double.package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", double.plugin)
    return double


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
        assert entry == kernel.name
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
    (sums,) = registry.described[f"auralsam2::{chain.kernels[0].name}"](*fake)
    assert sums.dtype == "FLOAT"
    assert len(sums.shape_expr) == 3


def test_a_size_that_no_own_input_shows_comes_with_one_more_input(registry: Registry) -> None:
    sums, mean = mean_chain().kernels
    assert list(sums.inputs) == ["x", "weight"]
    assert sums.parameters == ("x_ptr", "weight_ptr")
    assert list(mean.inputs) == ["sums", "x"]
    assert mean.parameters == ("sums_ptr", "shape_of_x")
    declared = [declaration.split()[1:3:1] for declaration in parameters(mean.ptx)]
    assert [kind[0] for kind in declared] == [".u64", ".u64", ".u32", ".u32", ".u64"]
    assert parameters(mean.ptx)[1].endswith("clip_mean_unused_0")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "FLOAT"}, "x is FLOAT; compiled for float16"),
        ({"shape_expr": [named("T"), Symbol(CHANNELS)]}, "x has 2 axes"),
        ({"shape_expr": [named("T"), named("P"), Symbol(96)]}, r"x has 96 where \(T, P, 64\) is compiled"),
    ],
)
def test_tensors_that_the_kernel_was_not_compiled_for(registry: Registry, wrong: Any, message: str) -> None:
    chain = mean_chain()
    plugins.register(chain)
    tensors = described_mean_inputs()
    x = dataclasses.replace(tensors["x"], **wrong)
    with pytest.raises(KernelError, match=message):
        registry.described[f"auralsam2::{chain.kernels[0].name}"](x, tensors["weight"])


def test_a_name_stands_for_one_code_and_one_way_to_launch_it() -> None:
    """TensorRT tells kernels apart by names, of plugins and of entries; a graph names a plugin and means its code."""

    def other(change: Callable[[Compiled], dict[str, Any]]) -> Callable[..., Compiled]:
        def compiler(*arguments: Any) -> Compiled:
            compiled = pretend_to_compile(*arguments)
            return dataclasses.replace(compiled, **change(compiled))

        return compiler

    sums, mean = mean_chain().kernels
    assert sums.name.startswith("mean_fp16_0_block_sums_")
    assert mean.name.startswith("mean_fp16_1_clip_mean_")
    for kernel in (sums, mean):
        assert kernel.ptx.count(kernel.name) == 1
        assert f".visible .entry {kernel.name}(" in kernel.ptx
    assert [kernel.name for kernel in mean_chain().kernels] == [sums.name, mean.name]
    changes: tuple[Callable[[Compiled], dict[str, Any]], ...] = (
        lambda compiled: {"ptx": compiled.ptx.replace("ret;", "exit;")},
        lambda compiled: {"shared_bytes": 16},
    )
    for change in changes:
        assert {kernel.name for kernel in mean_chain(other(change)).kernels}.isdisjoint({sums.name, mean.name})


def test_what_is_registered_already_stays(registry: Registry) -> None:
    plugins.register(mean_chain())
    first = dict(registry.described)
    plugins.register(mean_chain())
    assert registry.described == first


def test_a_plugin_that_tensorrt_refuses_is_named(registry: Registry) -> None:
    def refuse(identity: str) -> Any:
        raise ValueError("no such type")

    registry.plugin.register = refuse
    with pytest.raises(
        KernelError, match=r"does not take the plugin auralsam2::mean_fp16_0_block_sums_\w+: no such type"
    ):
        plugins.register(mean_chain())


def test_large_shared_memory_is_asked_for_by_name(registry: Registry) -> None:
    def large(*arguments: Any) -> Compiled:
        return dataclasses.replace(pretend_to_compile(*arguments), shared_bytes=48 * 1024 + 16)

    needs = r"mean_fp16_0_block_sums_\w+ needs 49168, mean_fp16_1_clip_mean_\w+ needs 49168 bytes"
    with pytest.raises(KernelError, match=needs):
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


def test_code_for_one_card_alone_becomes_code_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain target where the assembler takes it, else what the compiler writes for an older card."""
    plan = mean_plan({"x": (1, 32, CHANNELS), "weight": (CHANNELS, CHANNELS)}, torch.float16)
    assembled: list[tuple[str, int]] = []

    def compiler(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
        compiled = pretend_to_compile(plan, launch, capability, ptx_version)
        own = {80: ("sm_80", "ret;"), 90: ("sm_90a", "wgmma.fence;" if launch.name == "block_sums" else "ret;")}
        target, body = own[capability]
        kinds = ["p"] * len(launch.inputs) + ["i"] * len(launch.integers) + ["p"] * len(launch.outputs)
        ptx = text(launch.name, kinds, 32 * launch.num_warps, body).replace(".target sm_80", f".target {target}")
        return dataclasses.replace(compiled, ptx=ptx, shared_bytes=capability)

    def assemble(ptx: str, capability: int) -> dict[str, int]:
        assembled.append((ptx, capability))
        if "wgmma" in ptx:
            raise KernelError("Instruction 'wgmma.fence' not supported on .target 'sm_90'")
        return {}

    monkeypatch.setattr(plugins, "compile_launch", compiler)
    monkeypatch.setattr(plugins, "assemble", assemble)
    sums, mean = (plugins.compile_plainly(plan, launch, 90, 87) for launch in plan.launches)
    assert ".target sm_80\n" in sums.ptx
    assert (sums.capability, sums.shared_bytes) == (90, 80)
    assert ".target sm_90\n" in mean.ptx
    assert (mean.capability, mean.shared_bytes) == (90, 90)
    assert {(sums.ptx, 90), (mean.ptx, 90)} <= set(assembled)


@pytest.fixture(scope="module")
def compiled_chains(repository_root: Path) -> dict[str, Any]:
    """The chain for each architecture, compiled in one process without the interpreter."""
    code = f"""
import dataclasses, json, torch
import test_tensorrt_plugins as tests
from kernels import tensorrt_plugins as plugins
from kernels.compilation import assemble
from kernels.ptx import parameters
answers = {{}}
for capability in {CAPABILITIES}:
    whole = []
    def compiler(*arguments):
        whole.append(plugins.compile_plainly(*arguments))
        return whole[-1]
    chain = plugins.build_chain(tests.MEAN, torch.float16, capability, compiler=compiler)
    answers[capability] = [
        dict(ptx=kernel.ptx, parameters=parameters(kernel.ptx), own=parameters(compiled.ptx),
             threads=kernel.block_threads, shared=kernel.shared_bytes,
             stripped=assemble(kernel.ptx, capability), unstripped=assemble(compiled.ptx, capability))
        for kernel, compiled in zip(chain.kernels, whole)
    ]
print(json.dumps(answers))
"""
    result = run_apart(repository_root, "-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr
    chains: dict[str, Any] = json.loads(result.stdout)
    return chains


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled_chains_assemble_with_the_parameters_of_tensorrt(
    compiled_chains: dict[str, Any], capability: int
) -> None:
    sums, mean = compiled_chains[str(capability)]
    for kernel, kinds in ((sums, "ppiip"), (mean, "ppiip")):
        expected = [".u64" if kind == "p" else ".u32" for kind in kinds]
        assert [declaration.split()[1] for declaration in kernel["parameters"]] == expected
        assert kernel["stripped"] == kernel["unstripped"]
        assert ".version 8.7" in kernel["ptx"]
        assert f".target sm_{capability}\n" in kernel["ptx"]
    # The compiler's own: two scratch pointers more, and no pointer for the shape of x.
    assert sums["own"][:5] == sums["parameters"]
    assert (len(sums["own"]), len(mean["own"])) == (7, 6)
    assert mean["parameters"][1].endswith("clip_mean_unused_0")
    assert (sums["threads"], mean["threads"]) == (128, 32)
    assert sums["shared"] > 0


def test_the_real_tensorrt_takes_the_signatures() -> None:
    pytest.importorskip("tensorrt", reason="TensorRT needs NVIDIA's own package index and libraries")
    chain = mean_chain()
    plugins.register(chain)
    import tensorrt.plugin as plugin

    assert hasattr(plugin.op.auralsam2, chain.kernels[0].name)

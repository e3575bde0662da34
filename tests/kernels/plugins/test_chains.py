"""Plans as chains of plugins: what each kernel is called, takes and needs, without TensorRT."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

from kernels.compilation import Compiled
from kernels.launching.errors import KernelError
from kernels.launching.launch import Launch, Plan, Size
from kernels.plugins import chains
from kernels.plugins.ptx import parameters
from tests.kernels.plugins.mean_plan import CHANNELS, MEAN, mean_chain, mean_plan
from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile, text
from tests.kernels.toy_kernels import run_apart

CAPABILITIES = (80, 86, 89, 90, 100, 120)


def test_a_size_that_no_own_input_shows_comes_with_one_more_input() -> None:
    sums, mean = mean_chain().kernels
    assert list(sums.inputs) == ["x", "weight"]
    assert sums.parameters == ("x_ptr", "weight_ptr")
    assert list(mean.inputs) == ["sums", "x"]
    assert mean.parameters == ("sums_ptr", "shape_of_x")
    declared = [declaration.split()[1:3:1] for declaration in parameters(mean.ptx)]
    assert [kind[0] for kind in declared] == [".u64", ".u64", ".u32", ".u32", ".u64"]
    assert parameters(mean.ptx)[1].endswith("clip_mean_unused_0")


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
def test_plans_that_plugins_cannot_run(fused: chains.Fused, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        chains.build_chain(fused, torch.float16, 80, compiler=pretend_to_compile)


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

    monkeypatch.setattr(chains, "compile_launch", compiler)
    monkeypatch.setattr(chains, "assemble", assemble)
    sums, mean = (chains.compile_plainly(plan, launch, 90, 87) for launch in plan.launches)
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
from kernels.plugins import chains
from kernels.compilation import assemble
from kernels.plugins.ptx import parameters
from tests.kernels.plugins.mean_plan import MEAN
answers = {{}}
for capability in {CAPABILITIES}:
    whole = []
    def compiler(*arguments):
        whole.append(chains.compile_plainly(*arguments))
        return whole[-1]
    chain = chains.build_chain(MEAN, torch.float16, capability, compiler=compiler)
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
    answers: dict[str, Any] = json.loads(result.stdout)
    return answers


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

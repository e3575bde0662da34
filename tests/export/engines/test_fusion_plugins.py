"""Plugins of a graph: what a manifest says of them, how they are registered, and what is refused."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

pytest.importorskip("triton", reason="the kernels are written in Triton")

from export.engines.fusion_plugins import PluginUse, register_plugins, with_plugins
from export.errors import ExportError
from kernels.compilation import Compiled
from kernels.launching.launch import Launch, Plan
from kernels.tuning import blocks_of
from tests.export.engines.fusion_toys import CAPABILITY, integer_plan, plugin_nodes
from tests.kernels.plugins.plugin_stand_ins import Registry, pretend_to_compile


def test_two_graphs_of_one_source_are_the_same_bytes(write_plugins: Callable[..., tuple[Path, PluginUse]]) -> None:
    out, use = write_plugins("paper", "float16")
    first = out.read_bytes()
    again, same = write_plugins("paper", "float16")
    assert again.read_bytes() == first
    assert same == use


def test_what_a_manifest_says(write_plugins: Callable[..., tuple[Path, PluginUse]]) -> None:
    _, use = write_plugins("paper", "float16")
    record = json.loads(json.dumps(use.as_record()))
    assert record == {
        "operator": "AudioVisualFusion",
        "plugins": [kernel.name for kernel in use.chain.kernels],
        "capability": CAPABILITY,
        "dtype": "float16",
        "shared_bytes": [1024 * launch.num_warps for launch in integer_plan("paper", 1, 16, 1, torch.float16).launches],
        "count": 1,
    }
    assert all(len(name) < 128 for name in use.plugins)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    double = Registry()
    monkeypatch.setitem(sys.modules, "tensorrt", double.package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", double.plugin)
    return double


def test_every_plugin_of_the_graph_is_registered(
    registry: Registry, write_plugins: Callable[..., tuple[Path, PluginUse]]
) -> None:
    out, use = write_plugins("straddling", "float16")
    register_plugins([use])
    register_plugins([use])
    for node in plugin_nodes(onnx.load(out)):
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        identity = f"{attributes['plugin_namespace'].decode()}::{node.op_type}"
        assert identity in registry.described
        assert identity in registry.implemented
    assert len(registry.described) == len(use.plugins)


def test_without_a_tensorrt_that_takes_plugins_native_operators_are_named(
    registry: Registry, write_plugins: Callable[..., tuple[Path, PluginUse]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, use = write_plugins("paper")
    registry.package.__version__ = "10.8.0.43"
    with pytest.raises(
        ExportError, match=r"TensorRT 10\.8\.0\.43 reads no compiled .* 10\.9 or newer.*--fusion native"
    ):
        register_plugins([use])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"plugins need the tensorrt package.*--fusion native"):
        register_plugins([use])


def large(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
    compiled = pretend_to_compile(plan, launch, capability, ptx_version)
    return dataclasses.replace(compiled, shared_bytes=64_000 if launch.name == "released_mix" else 1024)


def test_kernels_that_tensorrt_may_not_launch_are_refused_unless_asked_for(
    registry: Registry, write_plugins: Callable[..., tuple[Path, PluginUse]]
) -> None:
    message = r"straddling\.onnx: .*capability 89: released_mix needs 64000 bytes of shared memory.*--fusion native"
    with pytest.raises(ExportError, match=message):
        write_plugins("straddling", compiler=large)
    _, use = write_plugins("straddling", compiler=large, large_shared_memory=True)
    assert max(use.shared_bytes) == 64_000
    register_plugins([use])
    assert len(registry.described) == len(use.plugins)


def test_block_sizes_of_the_card_itself_come_first(
    write_plugins: Callable[..., tuple[Path, PluginUse]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def blocks(dtype: torch.dtype, gpu: str, capability: int) -> Any:
        asked.append((gpu, capability))
        return blocks_of(dtype, gpu, capability)

    monkeypatch.setattr("export.engines.fusion_plugins.blocks_of", blocks)
    write_plugins("paper")
    write_plugins("paper", gpu="NVIDIA L4")
    assert asked == [("sm_89", 89), ("NVIDIA L4", 89)]


def test_what_is_asked_for_must_exist(
    toys: dict[str, Path], write_plugins: Callable[..., tuple[Path, PluginUse]], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"precision 'int8'; plugins compute in float32, float16, bfloat16"):
        write_plugins("paper", "int8")
    with pytest.raises(ExportError, match=r"capability 75: no block sizes for sm_75.*--fusion native"):
        with_plugins(toys["paper"], tmp_path / "out.onnx", 75, compiler=pretend_to_compile)
    out, _ = write_plugins("paper")
    with pytest.raises(ExportError, match="the graph has no AudioVisualFusion; export the stage with its operators"):
        with_plugins(out, tmp_path / "again.onnx", CAPABILITY, compiler=pretend_to_compile)

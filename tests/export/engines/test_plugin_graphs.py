"""The fusion as plugins: the graph that TensorRT would parse, computed with the kernels that it would launch.

What is not shown here: TensorRT itself, and the compiled code on a card.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

pytest.importorskip("triton", reason="the kernels are written in Triton")

from export.engines.fusion_plugins import PluginUse, with_plugins
from model_repository.stage_runtime.engine import load_engine
from tests.export.engines.fusion_toys import (
    CAPABILITY,
    DTYPES,
    INNER,
    KERNELS,
    PIXELS,
    TOLERANCE,
    WIDTH,
    cast_fuser,
    errors,
    integer_plan,
    plugin_nodes,
    run,
    toy_inputs,
    toy_outputs,
)
from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile


def test_the_fuser_with_plugins_computes_what_it_does_natively(fuser: Path, tmp_path: Path) -> None:
    """All of it in float16, as an engine: three fusions, the blocks between them written out in standard operators."""
    out = tmp_path / "plugins.onnx"
    (use,) = with_plugins(
        fuser, out, CAPABILITY, precision="float16", cast=cast_fuser("float16"), compiler=pretend_to_compile
    )
    draw = np.random.default_rng(0)
    graph = onnx.load(fuser).graph
    inputs = {
        value.name: draw.standard_normal([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.float32)
        for value in graph.input
    }
    wanted = load_engine("onnxruntime", fuser)(inputs)
    found, ran = run(out, use.chain, integer_plan("straddling", 2, 14 * 14, 2, torch.float16), inputs)
    assert use.count == 3
    assert sorted(ran) == sorted(3 * use.plugins)
    assert list(found) == [value.name for value in graph.output]
    assert max(errors(found, wanted).values()) < TOLERANCE["float16"]


@pytest.mark.parametrize("form", KERNELS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_graph_with_plugins_computes_what_pytorch_does(
    form: str, precision: str, write_plugins: Callable[..., tuple[Path, PluginUse]]
) -> None:
    out, use = write_plugins(form, precision)
    assert [kernel.function for kernel in use.chain.kernels] == KERNELS[form].split()
    inputs = toy_inputs(form)
    plan = integer_plan(form, 2, PIXELS[form], 3, DTYPES[precision])
    found, ran = run(out, use.chain, plan, inputs)
    assert sorted(ran) == sorted(use.plugins)
    assert max(errors(found, toy_outputs(form)).values()) < TOLERANCE[precision]


def swapped(node: onnx.NodeProto, first: int, second: int) -> None:
    node.input[first], node.input[second] = node.input[second], node.input[first]


@pytest.mark.parametrize(
    ("function", "alter"),
    [
        ("released_mix", lambda node: swapped(node, 4, 5)),
        ("finish_sound", lambda node: swapped(node, 4, 5)),
        ("project_sound", lambda node: node.input.__setitem__(0, "AUDIO_OF_ANOTHER")),
        ("straddling_sums", lambda node: node.input.__setitem__(0, "ROWS_OF_ANOTHER")),
    ],
)
def test_a_chain_that_is_wired_wrongly_computes_something_else(
    function: str,
    alter: Callable[[onnx.NodeProto], None],
    write_plugins: Callable[..., tuple[Path, PluginUse]],
) -> None:
    """The measure of the tests above finds one wrong tensor of the right shape."""
    out, use = write_plugins("straddling")
    proto = onnx.load(out)
    others = {"AUDIO_OF_ANOTHER": (3, WIDTH), "ROWS_OF_ANOTHER": (3, 2, INNER, PIXELS["straddling"])}
    draw = np.random.default_rng(1)
    for name, shape in others.items():
        value = draw.standard_normal(shape, dtype=np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    (node,) = (node for node in plugin_nodes(proto) if node.name == f"fusion_1_{function}")
    alter(node)
    onnx.save(proto, out)
    inputs = toy_inputs("straddling")
    found, _ = run(out, use.chain, integer_plan("straddling", 2, PIXELS["straddling"], 3, torch.float32), inputs)
    assert max(errors(found, toy_outputs("straddling")).values()) > 1e3 * TOLERANCE["float32"]


def test_the_kernels_compile_for_the_card_that_is_named(
    toys: dict[str, Path], repository_root: Path, tmp_path: Path
) -> None:
    """sm_90, where one kernel of this chain has instructions of that card alone, which TensorRT would refuse."""
    code = f"""
import json
from pathlib import Path
from export.engines.fusion_plugins import with_plugins
from kernels.compilation import assemble
from kernels.plugins.ptx import parameters
(use,) = with_plugins(Path({str(toys["straddling"])!r}), Path({str(tmp_path / "out.onnx")!r}), 90)
print(json.dumps([
    dict(name=kernel.name, ptx=kernel.ptx, kinds=[line.split()[1] for line in parameters(kernel.ptx)],
         inputs=len(kernel.inputs), integers=len(kernel.integers), outputs=len(kernel.outputs),
         shared=kernel.shared_bytes, assembled=assemble(kernel.ptx, 90))
    for kernel in use.chain.kernels
]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(repository_root)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kernels = json.loads(result.stdout)
    assert {node.op_type for node in plugin_nodes(onnx.load(tmp_path / "out.onnx"))} == {k["name"] for k in kernels}
    for kernel in kernels:
        pointers, integers = [".u64"] * kernel["inputs"], [".u32"] * kernel["integers"]
        assert kernel["kinds"] == [*pointers, *integers, *[".u64"] * kernel["outputs"]]
        assert kernel["shared"] <= 48 * 1024
        assert kernel["assembled"]["spill_loads"] == 0
    targets = [next(line for line in kernel["ptx"].splitlines() if line.startswith(".target")) for kernel in kernels]
    assert targets == [".target sm_90", ".target sm_80", *[".target sm_90"] * 5]


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


def test_nvidia_s_parser_looks_for_plugins_by_what_the_nodes_say(
    rtx: Any, write_plugins: Callable[..., tuple[Path, PluginUse]]
) -> None:
    """TensorRT-RTX has no plugins of our kind: its parser refuses these nodes, and no other, by name and namespace."""
    messages: list[str] = []

    class Log(rtx.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            messages.append(message)

    out, use = write_plugins("straddling", "float16")
    log = Log()
    builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    assert not parser.parse_from_file(str(out))
    refused = [parser.get_error(index) for index in range(parser.num_errors)]
    assert {error.node_operator() for error in refused} <= set(use.plugins)
    assert all("Plugin not found" in error.desc() for error in refused)
    looked_for = [message for message in messages if message.startswith("Checking if node can be treated as plugin")]
    for name in {error.node_operator() for error in refused}:
        assert any(f"{name}, plugin_version: 1, plugin_namespace: auralsam2" in message for message in looked_for)
    assert refused

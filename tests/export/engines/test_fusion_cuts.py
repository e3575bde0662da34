"""Chains of kernels take the place of fusions: how they are wired, typed and joined to their neighbours."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

pytest.importorskip("triton", reason="the kernels are written in Triton")

from export.engines.fusion_plugins import PluginUse, with_plugins
from export.errors import ExportError
from kernels.fusion.weights import FusionWeights
from tests.export.engines.fusion_toys import (
    CAPABILITY,
    DTYPES,
    ONNX_TYPES,
    WIDTH,
    cast_fuser,
    integer_plan,
    kind_of,
    plugin_nodes,
    typed,
)
from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_each_fusion_of_the_fuser_is_a_chain_of_its_kernels(precision: str, fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    cast = None if precision == "float32" else cast_fuser(precision)
    (use,) = with_plugins(fuser, out, CAPABILITY, precision=precision, cast=cast, compiler=pretend_to_compile)
    source, proto = onnx.load(fuser), onnx.load(out)
    for before, after in ((source.graph.input, proto.graph.input), (source.graph.output, proto.graph.output)):
        assert [value.name for value in before] == [value.name for value in after]
        assert list(map(kind_of, before)) == list(map(kind_of, after))
    assert not proto.functions
    assert [entry.domain for entry in proto.opset_import] == ["", "auralsam2"]
    assert not [node for node in proto.graph.node if node.op_type == "Identity"]
    nodes, types = plugin_nodes(proto), typed(proto)
    plan = integer_plan("straddling", 2, 14 * 14, 2, DTYPES[precision])
    for number in (1, 2, 3):
        chain = {node.op_type: node for node in nodes if node.name.startswith(f"fusion_{number}_")}
        held: dict[str, str] = {}
        for kernel, launch in zip(use.chain.kernels, plan.launches, strict=True):
            node = chain.pop(kernel.name)
            assert {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute} == {
                "plugin_namespace": b"auralsam2",
                "plugin_version": b"1",
                "aot": 1,
            }
            inputs = dict(zip(kernel.inputs, node.input, strict=True))
            outputs = dict(zip(kernel.outputs, node.output, strict=True))
            # A tensor of the chain is one tensor of the graph, whichever kernel reads it.
            assert {name: held[name] for name in inputs if name in held} == {n: inputs[n] for n in inputs if n in held}
            held |= inputs | outputs
            assert set(launch.inputs.values()) <= set(inputs)
            assert set(launch.outputs.values()) == set(outputs)
        assert not chain
        for name, tensor in held.items():
            buffer = plan.buffers[name]
            assert types[tensor] == (ONNX_TYPES[buffer.dtype], buffer.shape)
        weights = {name: tensor for name, tensor in held.items() if name in FusionWeights._fields}
        assert weights == {name: f"fuser.fusion_modules.{number - 1}.{name}_plugin" for name in FusionWeights._fields}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_narrow_neighbours_hand_over_without_a_cast(precision: str, fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    with_plugins(fuser, out, CAPABILITY, precision=precision, cast=cast_fuser(precision), compiler=pretend_to_compile)
    proto = onnx.load(out)
    producers = {name: node for node in proto.graph.node for name in node.output}
    read = {name for node in plugin_nodes(proto) for name in node.input if name in producers}
    assert {producers[name].op_type for name in read if not producers[name].domain} == {"Add"}
    given = {name for node in plugin_nodes(proto) for name in node.output}
    casts = [node for node in proto.graph.node if node.op_type == "Cast"]
    assert not [node for node in casts if node.input[0] in producers and producers[node.input[0]].op_type == "Cast"]
    # Each of the two results is made float32 once.
    assert len([node for node in casts if node.input[0] in given]) == 6


def test_a_graph_of_another_narrow_type_is_cast_for_the_kernels(fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    (use,) = with_plugins(
        fuser, out, CAPABILITY, precision="float16", cast=cast_fuser("bfloat16"), compiler=pretend_to_compile
    )
    proto = onnx.load(out)
    types, kernels = typed(proto), {kernel.name: kernel for kernel in use.chain.kernels}
    for node in plugin_nodes(proto):
        wanted = [ONNX_TYPES[buffer.dtype] for buffer in kernels[node.op_type].inputs.values()]
        assert [types[name][0] for name in node.input] == wanted


def test_a_float32_chain_needs_no_casts(write_plugins: Callable[..., tuple[Path, PluginUse]]) -> None:
    nodes = onnx.load(write_plugins("straddling")[0]).graph.node
    assert not [node for node in nodes if node.op_type in ("Cast", "Identity")]


def altered(source: Path, out: Path, alter: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(source)
    alter(proto)
    onnx.save(proto, out)
    return out


def compute_a_weight(proto: onnx.ModelProto) -> None:
    (node,) = plugin_nodes(proto)
    proto.graph.node.insert(0, onnx.helper.make_node("Neg", [node.input[8]], ["computed"]))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("computed", onnx.TensorProto.FLOAT, [WIDTH]))
    node = next(node for node in proto.graph.node if node.domain)
    node.input[8] = "computed"


def open_frames(proto: onnx.ModelProto) -> None:
    for value in proto.graph.value_info:
        if value.name == next(node for node in proto.graph.node if node.domain).input[0]:
            value.type.tensor_type.shape.dim[0].dim_param = "T"


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (compute_a_weight, "frame_norm is computed; plugins take stored weights"),
        (open_frames, "visual is not a float32 tensor of fixed shape"),
    ],
)
def test_fusions_that_chains_cannot_stand_for(
    alter: Callable[[onnx.ModelProto], None], message: str, toys: dict[str, Path], tmp_path: Path
) -> None:
    source = altered(toys["paper"], tmp_path / "altered.onnx", alter)
    with pytest.raises(ExportError, match=rf"altered\.onnx: node_audio_visual_fusion\w*: {message}"):
        with_plugins(source, tmp_path / "out.onnx", CAPABILITY, compiler=pretend_to_compile)
    assert not (tmp_path / "out.onnx").exists()

"""What TensorRT asks of a graph, held on the files that the export writes, without TensorRT: operators that its parser
knows in the types that it computes, shapes that are known, no integers at run time, and no constant twice.

The networks are the compact one at 256 px with five frames and hiera_tiny at 512 px with two, in the graphs for a GPU;
the compact hiera, which takes one frame on a CPU, in that form too.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from auralsam2_client.contract import STAGE_NAMES
from export.graphs.onnx_graph import DTYPES
from export.graphs.stages import Stage
from tests.builds import exported_once
from tests.export.graphs_on_gpu import OnGpu, stages_of

# "Supported ONNX Operators" of onnx-tensorrt for TensorRT 10.15, opset 9 to 24:
# https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md
# Only what our graphs have: look another operator up there, its restrictions too, before it is added here.
FLOATS = frozenset({"FP32", "FP16", "BF16"})
NUMBERS = FLOATS | {"INT32", "INT64"}
ANY = NUMBERS | {"BOOL"}
SUPPORTED = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "Resize", "MatMul", "Gemm", "Softmax", "Sigmoid"), FLOATS),
    **dict.fromkeys(("LayerNormalization", "Erf", "Sqrt", "Log"), FLOATS),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Greater", "Less", "Relu", "Pad"), NUMBERS),
    **dict.fromkeys(("ReduceMean", "ReduceSum"), NUMBERS),
    **dict.fromkeys(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat"), ANY),
    **dict.fromkeys(("Expand", "Gather", "Identity", "Where"), ANY),
    "Cast": ANY | {"UINT8"},
}
TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
# The axes, sizes and indices of these stand in the graph; of the last three, so do the weights.
CONSTANT_INPUTS = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Split", "Expand", "Gather"), (1,)),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "Pad"), (1,)),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    **dict.fromkeys(("Conv", "ConvTranspose", "LayerNormalization"), (1, 2)),
}
COMPARISONS = {"Greater", "Less"}
RESIZE = {
    "mode": {"nearest", "linear"},
    "coordinate_transformation_mode": {
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    },
    "nearest_mode": {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"},
    "keep_aspect_ratio_policy": {"stretch"},
    "antialias": {0},
}
SHARED_FROM_BYTES = 64
# Where a matrix is this large, its transpose beside it is a weight kept twice.
TRANSPOSED_FROM = 4096
LARGEST_FILE_OF_WEIGHTS = 1.3


@dataclasses.dataclass(frozen=True)
class Exported:
    """A graph as it lies on disk, what it was made of, and what shape inference says of it."""

    stage: Stage
    path: Path
    model: onnx.ModelProto
    kinds: dict[str, str]
    """Type of every value, as TensorRT names it; of constants too."""
    shapes: dict[str, tuple[int | None, ...] | None]
    """Of every value; None where a dimension, or the rank, is not known."""

    @property
    def constants(self) -> set[str]:
        return {tensor.name for tensor in self.model.graph.initializer}


def read(stage: Stage, path: Path) -> Exported:
    model = onnx.load(path)
    return Exported(stage, path, model, *infer(model))


def infer(model: onnx.ModelProto) -> tuple[dict[str, str], dict[str, tuple[int | None, ...] | None]]:
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    kinds = {tensor.name: TYPES.get(tensor.data_type, "other") for tensor in inferred.initializer}
    shapes: dict[str, tuple[int | None, ...] | None] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        kinds[value.name] = TYPES.get(kind.elem_type, "other")
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        shapes[value.name] = tuple(dims) if kind.HasField("shape") else None
    return kinds, shapes


@pytest.fixture(scope="module")
def compact(compact_on_gpu: OnGpu, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Hiera in the CPU's form as well."""
    (here,) = (stage for stage in stages_of(compact_on_gpu.settings, on_gpu=False) if stage.name == "hiera")
    return {
        "hiera-cpu": read(here, exported_once("compact-cpu", [here], tmp_path_factory)["hiera"]),
        **{stage.name: read(stage, path) for stage, path in compact_on_gpu.graphs},
    }


@pytest.fixture(scope="module")
def tiny(tiny_on_gpu: OnGpu) -> dict[str, Exported]:
    return {stage.name: read(stage, path) for stage, path in tiny_on_gpu.graphs}


GRAPHS = (*(f"compact-{name}" for name in (*STAGE_NAMES, "hiera-cpu")), *(f"tiny-{name}" for name in STAGE_NAMES))


@pytest.fixture(params=GRAPHS)
def exported(request: pytest.FixtureRequest) -> Exported:
    network, name = request.param.split("-", 1)
    return request.getfixturevalue(network)[name]


def test_operators_are_standard_and_written_out(exported: Exported) -> None:
    assert not exported.model.functions
    assert {node.domain for node in exported.model.graph.node} == {""}
    (opset,) = exported.model.opset_import
    assert 9 <= opset.version <= 24


def test_operators_are_supported_with_these_types_and_attributes(exported: Exported) -> None:
    assert faults(exported.model, exported.kinds) == []


def faults(model: onnx.ModelProto, kinds: dict[str, str]) -> list[str]:
    """What of the list's table does not hold, a line for each node."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name for value in model.graph.input}
    return [
        f"{node.op_type} {node.name}: {fault}"
        for node in model.graph.node
        for fault in node_faults(node, kinds, constants, inputs)
    ]


def node_faults(node: onnx.NodeProto, kinds: dict[str, str], constants: set[str], inputs: set[str]) -> Iterator[str]:
    if node.op_type not in SUPPORTED:
        yield "not in the list"
        return
    for place, name in enumerate(node.input):
        if not name:
            continue
        if place in CONSTANT_INPUTS.get(node.op_type, ()):
            if name not in constants:
                yield f"input {place} is computed"
        elif node.op_type == "Where" and place == 0:
            if kinds[name] != "BOOL":
                yield f"the condition is {kinds[name]}"
        elif kinds[name] not in SUPPORTED[node.op_type]:
            yield f"input {place} is {kinds[name]}"
        if kinds[name] == "UINT8" and name not in inputs:
            yield "UINT8 inside the graph"
    for name in node.output:
        wanted = {"BOOL"} if node.op_type in COMPARISONS else SUPPORTED[node.op_type] - {"UINT8"}
        if name and kinds[name] not in wanted:
            yield f"gives {kinds[name]}"
    yield from RESTRICTIONS.get(node.op_type, lambda node: iter(()))(node)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def only_first_output(node: onnx.NodeProto) -> Iterator[str]:
    if any(node.output[1:]):
        yield "more than the first output"


def max_pool(node: onnx.NodeProto) -> Iterator[str]:
    yield from only_first_output(node)
    given = attributes(node)
    if len(given["kernel_shape"]) not in (2, 3):
        yield f"kernel {given['kernel_shape']}"
    if set(given.get("dilations", [1])) != {1}:
        yield f"dilations {given['dilations']}"


def resize(node: onnx.NodeProto) -> Iterator[str]:
    given = attributes(node)
    for name, allowed in RESIZE.items():
        if name in given and given[name] not in allowed:
            yield f"{name} {given[name]}"
    if "axes" in given:
        yield "axes"


Restriction = Callable[[onnx.NodeProto], Iterator[str]]
RESTRICTIONS: dict[str, Restriction] = {
    "LayerNormalization": only_first_output,
    "MaxPool": max_pool,
    "Resize": resize,
}


def test_every_shape_is_known(exported: Exported) -> None:
    computed = [name for node in exported.model.graph.node for name in node.output if name]
    assert len(computed) > 20
    unknown = [name for name in computed if exported.shapes.get(name) is None or None in exported.shapes[name]]
    assert unknown == []
    assert all(min(exported.shapes[name], default=1) > 0 for name in computed)


def test_nothing_but_floats_is_computed(exported: Exported) -> None:
    """No index, no shape and no mask of bits: bytes become floats at once, and a comparison chooses, no more."""
    assert not_floats(exported.model, exported.kinds) == []


def not_floats(model: onnx.ModelProto, kinds: dict[str, str]) -> list[str]:
    chosen_by = {node.input[0] for node in model.graph.node if node.op_type == "Where"}
    read_otherwise = {
        name for node in model.graph.node for name in (node.input[1:] if node.op_type == "Where" else node.input)
    }
    return [
        f"{node.op_type} {node.name}: {kinds[name]}"
        for node in model.graph.node
        for name in node.output
        if name
        and kinds[name] != "FP32"
        and not (node.op_type in COMPARISONS and name in chosen_by and name not in read_otherwise)
    ]


def test_no_constant_is_kept_twice(exported: Exported) -> None:
    assert [node.name for node in exported.model.graph.node if node.op_type == "Constant"] == []
    tensors = [tensor for tensor in exported.model.graph.initializer if tensor_bytes(tensor) > SHARED_FROM_BYTES]
    same = Counter((tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in tensors)
    assert len(tensors) > 10
    assert all(tensor.raw_data for tensor in tensors)
    assert [key[:2] for key, count in same.items() if count > 1] == []


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    return numpy_helper.to_array(tensor).nbytes


def test_no_matrix_is_kept_beside_its_transpose(exported: Exported) -> None:
    matrices = [numpy_helper.to_array(each) for each in exported.model.graph.initializer if len(each.dims) == 2]
    matrices = [each for each in matrices if each.size >= TRANSPOSED_FROM]
    # Biases laid out as a matrix may be one number throughout.
    kept = {each.tobytes() for each in matrices if each.min() != each.max()}
    assert len(kept) > 2 or exported.stage.name == "vggish"
    turned = [each.shape for each in matrices if each.T.tobytes() in kept and each.min() != each.max()]
    assert turned == []


class Reads(TorchDispatchMode):
    """Notes the storage of every tensor that an operator reads."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor):
                self.storages.add(each.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


def weights_bytes(stage: Stage) -> int:
    """Bytes of the distinct parameters and buffers that a call of the stage's module reads."""
    arguments = [torch.zeros(stage.graph_shape(spec), dtype=DTYPES[spec.dtype]) for spec in stage.inputs]
    with torch.no_grad(), Reads() as reads:
        stage.module.eval()(*arguments)
    kept = {each.untyped_storage().data_ptr(): each for each in (*stage.module.parameters(), *stage.module.buffers())}
    return sum(each.numel() * each.element_size() for place, each in kept.items() if place in reads.storages)


def test_the_file_is_the_weights_and_little_more(exported: Exported) -> None:
    weights = weights_bytes(exported.stage)
    assert weights > 1e6
    assert 0.95 * weights < exported.path.stat().st_size < LARGEST_FILE_OF_WEIGHTS * weights


def written(nodes: list[onnx.NodeProto], constants: dict[str, Any], given: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """X [2, 4, 8, 8] to Y, of any type and shape."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("X", given, [2, 4, 8, 8])
    graph = helper.make_graph(nodes, "graph", [x], [onnx.ValueInfoProto(name="Y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


ONE = np.float32(1)


@pytest.mark.parametrize(
    ("nodes", "constants", "given", "said"),
    [
        ([("NonZero", "X", "Y", {})], {}, TensorProto.FLOAT, "NonZero n0: not in the list"),
        ([("ArgMax", "X", "Y", {})], {}, TensorProto.FLOAT, "ArgMax n0: not in the list"),
        ([("Add", "X X", "Y", {})], {}, TensorProto.UINT8, "Add n0: input 0 is UINT8"),
        ([("Transpose", "X", "Y", {})], {}, TensorProto.UINT8, "Transpose n0: input 0 is UINT8"),
        ([("Sqrt", "X", "Y", {})], {}, TensorProto.DOUBLE, "Sqrt n0: input 0 is other"),
        (
            [("Cast", "X", "I", {"to": TensorProto.INT64}), ("ReduceSum", "C I", "Y", {})],
            {"C": ONE},
            TensorProto.FLOAT,
            "ReduceSum n1: input 1 is computed",
        ),
        (
            [("MaxPool", "X", "Y M", {"kernel_shape": [2, 2]})],
            {},
            TensorProto.FLOAT,
            "MaxPool n0: more than the first output",
        ),
        (
            [("MaxPool", "X", "Y", {"kernel_shape": [2, 2], "dilations": [1, 2]})],
            {},
            TensorProto.FLOAT,
            "MaxPool n0: dilations [1, 2]",
        ),
        (
            [("Resize", "X  S", "Y", {"mode": "cubic"})],
            {"S": np.ones(4, np.float32)},
            TensorProto.FLOAT,
            "Resize n0: mode cubic",
        ),
        ([("Conv", "X X", "Y", {})], {}, TensorProto.FLOAT, "Conv n0: input 1 is computed"),
    ],
)
def test_what_is_not_supported_is_found(
    nodes: list[tuple[str, str, str, dict[str, Any]]], constants: dict[str, Any], given: int, said: str
) -> None:
    made = [
        helper.make_node(op_type, read_by.split(" "), gives.split(" "), name=f"n{index}", **options)
        for index, (op_type, read_by, gives, options) in enumerate(nodes)
    ]
    model = written(made, constants, given)
    kinds = {**dict.fromkeys("YM", "FP32"), "X": TYPES.get(given, "other"), "I": "INT64", "S": "FP32", "C": "FP32"}
    assert said in faults(model, kinds)


def test_integers_and_free_bits_are_found() -> None:
    nodes = [
        helper.make_node("Greater", ["X", "C"], ["B"], name="compares"),
        helper.make_node("Where", ["B", "X", "C"], ["W"], name="chooses"),
        helper.make_node("Shape", ["W"], ["Y"], name="measures"),
    ]
    model = written(nodes, {"C": ONE})
    kinds, _ = infer(model)
    assert not_floats(model, kinds) == ["Shape measures: INT64"]
    nodes[1].input[1] = "B"
    kinds = {"X": "FP32", "C": "FP32", "B": "BOOL", "W": "BOOL", "Y": "INT64"}
    found = not_floats(written(nodes, {"C": ONE}), kinds)
    assert found == ["Greater compares: BOOL", "Where chooses: BOOL", "Shape measures: INT64"]


def test_a_dynamic_shape_is_found() -> None:
    model = written([helper.make_node("NonZero", ["X"], ["Y"])], {})
    assert infer(model)[1]["Y"] == (4, None)


def test_weights_count_once_and_only_where_they_are_read(compact: dict[str, Exported]) -> None:
    """The decoder's stage holds all of SAM2; the image encoder and the unused point embeddings are not its weights."""
    stage = compact["sam2_decoder"].stage
    everything = sum(
        each.numel() * each.element_size() for each in (*stage.module.parameters(), *stage.module.buffers())
    )
    weights = weights_bytes(stage)
    image_encoder = sum(
        each.numel() * each.element_size() for each in stage.module.get_submodule("sam.image_encoder").parameters()
    )
    assert weights < everything - image_encoder
    assert weights > 0.5 * (everything - image_encoder)

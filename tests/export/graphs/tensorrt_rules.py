"""What TensorRT's parser takes: operators, the types that it computes them in, and constants where it wants them."""

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

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
RESIZE: dict[str, set[Any]] = {
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

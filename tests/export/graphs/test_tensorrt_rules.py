"""The rules that `test_tensorrt_support.py` holds graphs against find what breaks them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.graphs.tensorrt_rules import TYPES, faults, infer, not_floats


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, Any], given: int = TensorProto.FLOAT) -> onnx.ModelProto:
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
    model = model_of(made, constants, given)
    kinds = {**dict.fromkeys("YM", "FP32"), "X": TYPES.get(given, "other"), "I": "INT64", "S": "FP32", "C": "FP32"}
    assert said in faults(model, kinds)


def test_integers_and_free_bits_are_found() -> None:
    nodes = [
        helper.make_node("Greater", ["X", "C"], ["B"], name="compares"),
        helper.make_node("Where", ["B", "X", "C"], ["W"], name="chooses"),
        helper.make_node("Shape", ["W"], ["Y"], name="measures"),
    ]
    model = model_of(nodes, {"C": ONE})
    kinds, _ = infer(model)
    assert not_floats(model, kinds) == ["Shape measures: INT64"]
    nodes[1].input[1] = "B"
    kinds = {"X": "FP32", "C": "FP32", "B": "BOOL", "W": "BOOL", "Y": "INT64"}
    found = not_floats(model_of(nodes, {"C": ONE}), kinds)
    assert found == ["Greater compares: BOOL", "Where chooses: BOOL", "Shape measures: INT64"]


def test_a_dynamic_shape_is_found() -> None:
    model = model_of([helper.make_node("NonZero", ["X"], ["Y"])], {})
    assert infer(model)[1]["Y"] == (4, None)

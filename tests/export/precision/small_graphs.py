"""Graphs of a few nodes, to be cast, and the types in the graph that comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
TYPES = {"float16": HALF, "bfloat16": BFLOAT}
both = pytest.mark.parametrize("precision", list(TYPES))
Write = Callable[..., Path]


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=f"node_{output}", **attributes)


def types(path: Path) -> dict[str, int]:
    """The element type of every tensor in a file, as ONNX infers it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


def computed_in(path: Path) -> dict[str, int]:
    """For each node but casts, by its name: the type of its first float input."""
    known, graph = types(path), onnx.load(path).graph
    floats = (FLOAT, HALF, BFLOAT)
    return {
        n.name: next((known[i] for i in n.input if known.get(i) in floats), 0)
        for n in graph.node
        if n.op_type != "Cast"
    }

"""A walk through a graph that was cast: what computes in which type, and what is made of what."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir import DataType, Node, Value

from auralsam2_client.contract import STAGE_NAMES
from export.precision.type_rules import PRODUCTS
from export.settings import ExportSettings

NARROW = {"float16": DataType.FLOAT16, "bfloat16": DataType.BFLOAT16}
FLOATS = {DataType.FLOAT, *NARROW.values()}
MAKES_TABLES = 1e-2  # cos^2 + sin^2 - 1 of tables with 8 bits
both = pytest.mark.parametrize("kind", list(NARROW))
every_stage = pytest.mark.parametrize("stage", STAGE_NAMES)
Graph = ir.Graph


def read(path: Path) -> Graph:
    """A graph with the type of every tensor."""
    model: ir.Model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True))
    return model.graph


def computes_in(node: Node) -> set[DataType]:
    return {value.dtype for value in node.inputs if value is not None and value.dtype in FLOATS}


def producer(value: Value | None) -> Node | None:
    return None if value is None else value.producer()


def before(values: Iterable[Value | None]) -> Iterator[Node]:
    """What `values` are made by, back to the nearest products and with them."""
    found, waiting = set[Node](), [producer(value) for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            yield node
            if node.op_type not in PRODUCTS:
                waiting += [producer(value) for value in node.inputs]


def after(values: Iterable[Value]) -> Iterator[Node]:
    """What is made of `values`, on to the nearest products and with them."""
    found, waiting = set[Node](), [use.node for value in values for use in value.uses()]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            yield node
            if node.op_type not in PRODUCTS:
                waiting += [use.node for value in node.outputs for use in value.uses()]


def products(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.op_type in PRODUCTS]


def weights_of(node: Node) -> set[str]:
    """Names of the weights that a product reads, and of the bias that is added to it; "" for one without a name."""
    names = {str(value.name) for value in node.inputs if value is not None and value.is_initializer()}
    for output in node.outputs:
        adds = [use.node for use in output.uses() if use.node.op_type == "Add"]
        names |= {str(v.name) for add in adds for v in add.inputs if v is not None and v.is_initializer()}
    return names


def reading(graph: Graph, *patterns: str) -> list[Node]:
    """The products with a weight of one of these names."""
    return [
        node
        for node in products(graph)
        if any(fnmatchcase(name, pattern) for name in weights_of(node) for pattern in patterns)
    ]


def rotary_tables(graph: Graph, num_rows: int) -> list[Value]:
    """The constants [N, C / 2] that are cosines and sines of the same angles."""
    tables = {
        value: array
        for value in graph.initializers.values()
        if value.dtype in FLOATS
        and value.const_value is not None
        # Tables may be given an axis of their own for the heads.
        and (array := np.squeeze(value.const_value.numpy()).astype(np.float32)).ndim == 2
        and array.shape[0] == num_rows
        and np.ptp(array) > 1
    }
    return [
        one
        for one, ours in tables.items()
        if any(
            ours.shape == theirs.shape and np.abs(ours**2 + theirs**2 - 1).max() < MAKES_TABLES
            for other, theirs in tables.items()
            if other is not one
        )
    ]


def rotated_products(graph: Graph, settings: ExportSettings) -> list[Node]:
    """The products of queries and keys that were turned."""
    tables = rotary_tables(graph, (settings.size // 16) ** 2)
    assert len(tables) == 2
    return products(after(tables))

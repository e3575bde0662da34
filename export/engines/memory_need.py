"""How much GPU memory a graph needs at least: told before an hour of building, not after it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

ELEMENT_BYTES = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.BOOL: 1,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.INT64: 8,
}


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. An engine that fuses holds fewer activations than `activations`, and its tactics take scratch beside."""

    weights: int
    activations: int
    """The most that is alive at one node, inputs and outputs of the graph with it."""

    @property
    def to_build(self) -> int:
        """Weights are held twice while tactics are timed: the graph's, and those laid out for a tactic."""
        return 2 * self.weights + self.activations


def memory_need(path: Path) -> MemoryNeed:
    """Walk the nodes of an ONNX graph of fixed shapes in their order, each value alive until its last reader."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    weights = sum(_bytes(tensor.data_type, tensor.dims) for tensor in graph.initializer)
    sizes = {
        value.name: _bytes(
            value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    kept = {value.name for value in (*graph.input, *graph.output)}
    alive = sum(sizes[name] for name in kept)
    most = alive
    for index, node in enumerate(graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output if name not in kept)
        most = max(most, alive)
        done = {name for name in (*node.input, *node.output) if last.get(name, index) == index and name not in kept}
        alive -= sum(sizes.get(name, 0) for name in done)
    return MemoryNeed(weights, most)


def _bytes(element: int, dims: Iterable[int]) -> int:
    return math.prod(dims) * ELEMENT_BYTES[element]

"""Which nodes of a float32 ONNX graph may compute in float16 or bfloat16, and which stay float32.

Four kinds of nodes. Products with a weight (matrix products, convolutions) take the narrow type; engines add up in
float32 within each. Islands (layer norms, softmax; in bfloat16 also transposed convolutions, for which TensorRT-RTX 1.7
has no kernel) compute in float32 and hand on the narrow type. Statistics (squares, sums, roots, exponentials) stay
float32, and so does what is made of them alone: a variance of 1e-6 is 0 in float16. All others follow, products of two
computed tensors among them: narrow where one of their inputs is. Float32 as well: all that a logarithm reads (the mel
spectrum), nodes with a constant beyond the narrow type's range, what `keep` names, and the last product before each of
`wide_outputs`. Which tensors come near the end of float16 is measured, by `largest_values`, and given to `keep`.
"""

from collections.abc import Sequence, Set
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir import DataType, Graph, Node, Value

from export.errors import ExportError

PRECISIONS = {"float16": DataType.FLOAT16, "bfloat16": DataType.BFLOAT16}
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38}
PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"})
ISLANDS = {
    "float16": frozenset({"LayerNormalization", "Softmax"}),
    # "Could not infer output types for operation: deconv", says its builder.
    "bfloat16": frozenset({"LayerNormalization", "Softmax", "ConvTranspose"}),
}
STATISTICS = frozenset({"Pow", "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "Sqrt", "Exp", "Log"})
# Where one of these meets a statistic, the division is float32 as well: it is how norms end.
DIVISIONS = frozenset({"Div", "Reciprocal"})
# Inputs that are float32 by the operator's definition, whatever the others are.
FLOAT32_INPUTS = {"Resize": (1, 2)}


class TypeRules:
    """The type of each node, by its operator, its inputs and the nodes that are to stay float32.

    `narrow`, which the methods take, holds the values that are used in the narrow type where there is a choice.
    """

    def __init__(self, precision: str, wide: Set[Node]) -> None:
        self.wide = wide
        self.islands, self.largest = ISLANDS[precision], LARGEST[precision]

    def is_narrow(self, node: Node, inputs: Sequence[Value], narrow: Set[Value]) -> bool:
        """Tell whether `node` computes in the narrow type, given the inputs whose types may change."""
        if node in self.wide or node.op_type in self.islands | STATISTICS or self._beyond_range(inputs):
            return False
        moving = [value for value in inputs if constant_of(value) is None]
        if node.op_type in PRODUCTS and len(moving) < len(inputs):
            return True
        if node.op_type in DIVISIONS and any(value not in narrow for value in moving):
            return False
        return any(value in narrow for value in moving)

    def is_island(self, node: Node, inputs: Sequence[Value], narrow: Set[Value]) -> bool:
        """Tell whether what `node` computes in float32 is handed on narrow: a product's is; others as their inputs."""
        inside = node.op_type in PRODUCTS or any(value in narrow for value in inputs)
        return inside and node.op_type in self.islands and node not in self.wide

    def _beyond_range(self, inputs: Sequence[Value]) -> bool:
        for value in inputs:
            array = constant_of(value)
            if array is not None and array.size and float(np.abs(array).max()) > self.largest:
                return True
        return False


def wide_nodes(graph: Graph, keep: Sequence[str], wide_outputs: Sequence[str]) -> set[Node]:
    """Find the nodes that stay float32 by name or by place; `cast_graph` describes the arguments.

    Raises: ExportError for a name that matches nothing.
    """
    wide: set[Node] = set()
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for pattern in keep:
        named = {node for node in graph if fnmatchcase(node.name or "", pattern)}
        for name, weight in graph.initializers.items():
            if fnmatchcase(name, pattern):
                named |= _readers(weight)
        for value in values:
            if fnmatchcase(value.name or "", pattern):
                producer = value.producer()
                named |= {use.node for use in value.uses()} | (set() if producer is None else {producer})
        if not named:
            raise ExportError(f"keep {pattern!r} names no node, no tensor and no weight.")
        wide |= named
    outputs = {value.name: value for value in graph.outputs}
    for name in wide_outputs:
        if name not in outputs:
            raise ExportError(f"{name!r} is not an output; the graph has {', '.join(str(each) for each in outputs)}.")
        wide |= _before(outputs[name], stop_at_products=True)
    for node in graph:
        if node.op_type == "Log":
            wide |= _before(node.outputs[0], stop_at_products=False)
    return wide


def _readers(weight: Value) -> set[Node]:
    """The nodes that read a weight; of a bias that is added, the product before as well, whose matrix has no name."""
    readers = {use.node for use in weight.uses()}
    added_to = [value for node in readers if node.op_type == "Add" for value in node.inputs if value is not None]
    products = (value.producer() for value in added_to)
    return readers | {node for node in products if node is not None and node.op_type in PRODUCTS}


def _before(value: Value, *, stop_at_products: bool) -> set[Node]:
    """The nodes that `value` is made by, back to the inputs, or back to the first products and with them."""
    found: set[Node] = set()
    waiting = [value.producer()]
    while waiting:
        node = waiting.pop()
        if node is None or node in found:
            continue
        found.add(node)
        if not (stop_at_products and node.op_type in PRODUCTS):
            waiting += [each.producer() for each in node.inputs if each is not None]
    return found


def constant_of(value: Value) -> npt.NDArray[np.float32] | None:
    """Read the array that a value always is, of an initializer or a Constant; None where it is computed."""
    if value.const_value is not None and (value.is_initializer() or value.producer() is not None):
        return np.asarray(value.const_value.numpy())
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    (attribute,) = node.attributes.values()
    if attribute.type == ir.AttributeType.TENSOR:
        return np.asarray(attribute.as_tensor().numpy())
    return np.asarray(attribute.value, np.float32)

"""A float32 ONNX graph with its heavy part in float16 or bfloat16: the types that a strongly typed engine follows.

Four kinds of nodes. Products with a weight (matrix products, convolutions) take the narrow type; engines add up in
float32 within each. Islands (layer norms, softmax; in bfloat16 also transposed convolutions, for which TensorRT-RTX 1.7
has no kernel) compute in float32 and hand on the narrow type. Statistics (squares, sums, roots, exponentials) stay
float32, and so does what is made of them alone: a variance of 1e-6 is 0 in float16. All others follow, products of two
computed tensors among them: narrow where one of their inputs is. Float32 as well: all that a logarithm reads (the mel
spectrum), nodes with a constant beyond the narrow type's range, what `keep` names, and the last product before each of
`wide_outputs`. Which tensors come near the end of float16 is measured, by `largest_values`, and given to `keep`.

The graph's inputs and outputs keep their types, so that stages of different precision fit together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
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
# Conv, ConvTranspose and MaxPool know bfloat16 from opset 22 on; for the operators here nothing else changed since 18.
OPSET = 22


@dataclass(frozen=True)
class CastRecord:
    """What was cast: nodes by the type they compute in, and the casts put between them."""

    precision: str
    narrow: int
    wide: int
    casts: int


def cast_graph(
    source: Path, out: Path, precision: str, *, keep: Sequence[str] = (), wide_outputs: Sequence[str] = ()
) -> CastRecord:
    """Write the graph at `source` to `out`, computing in `precision` where that is safe.

    Args:
        precision: "float16" | "bfloat16".
        keep: names, with shell wildcards, of nodes that are to compute in float32, of tensors that are never to be
            narrow: what makes and what reads them computes in float32, and of weights: so does what reads them. A
            bias stands for the product that it is added to.
        wide_outputs: outputs of the graph, e.g. MASK_LOGITS, whose last products stay float32.
    Raises: ExportError for another precision, a name that matches nothing, or a graph that is not plain float32.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r}; a graph is cast to {' or '.join(PRECISIONS)}.")
    # The exporter leaves some types inside out, and they are needed of every value.
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(source), check_type=True, strict_mode=True))
    if model.functions or any(node.domain for node in model.graph):
        raise ExportError(f"{source.name} holds fused operators; cast the graph in which they are written out.")
    try:
        record = _Casting(model.graph, precision, _wide_nodes(model.graph, keep, wide_outputs)).run()
    except ExportError as error:
        raise ExportError(f"{source.name}: {error}") from error
    model.opset_imports[""] = max(OPSET, model.opset_imports[""])
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    onnx.checker.check_model(str(out), full_check=True)
    return record


def _wide_nodes(graph: Graph, keep: Sequence[str], wide_outputs: Sequence[str]) -> set[Node]:
    """The nodes that stay float32 by name or by place."""
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
            raise ExportError(f"{name!r} is no output; the graph has {', '.join(str(each) for each in outputs)}.")
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


class _Casting:
    """One pass over a sorted graph. `narrow`: the values to be used in the narrow type where there is a choice."""

    def __init__(self, graph: Graph, precision: str, wide: set[Node]) -> None:
        self.graph, self.precision, self.wide = graph, precision, wide
        self.type, self.islands = PRECISIONS[precision], ISLANDS[precision]
        self.narrow: set[Value] = set()
        self.floats = {value for node in graph for value in node.outputs if value.dtype == DataType.FLOAT}
        self.floats |= {value for value in graph.inputs if value.dtype == DataType.FLOAT}
        self.floats |= {value for value in graph.initializers.values() if value.dtype == DataType.FLOAT}
        self.copies: dict[tuple[Value, DataType], Value] = {}
        self.casts = 0

    def run(self) -> CastRecord:
        narrow, nodes = 0, list(self.graph)
        for node in nodes:
            self._check(node)
            if node.op_type == "Constant":
                continue
            if node.op_type == "CastLike":
                self._follow_model(node)
                continue
            narrow += self._cast(node)
        self._restore_outputs()
        for name, value in list(self.graph.initializers.items()):
            if not value.uses():
                del self.graph.initializers[name]
        for node in nodes:
            if node.op_type == "Constant" and not node.outputs[0].uses():
                self.graph.remove(node, safe=True)
        return CastRecord(self.precision, narrow, len(nodes) - narrow, self.casts)

    def _check(self, node: Node) -> None:
        for value in node.outputs:
            if value.dtype is None:
                raise ExportError(f"the type of {value.name}, made by {node.op_type}, cannot be inferred.")
            if value.dtype in (DataType.FLOAT16, DataType.BFLOAT16, DataType.DOUBLE):
                raise ExportError(f"{value.name} is {value.dtype.name}; only float32 graphs are cast.")
        if any(each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values()):
            raise ExportError(f"{node.name} ({node.op_type}) holds a graph of its own; only flat graphs are cast.")

    def _follow_model(self, node: Node) -> None:
        """A CastLike gives the type that its second input has by now."""
        model, output = node.inputs[1], node.outputs[0]
        if model in self.floats and model is not None and model.dtype == self.type:
            output.dtype = self.type
            self.narrow.add(output)

    def _cast(self, node: Node) -> bool:
        """Give one node its type. Returns whether it is the narrow one."""
        fixed = FLOAT32_INPUTS.get(node.op_type, ())
        inputs = [
            (index, value)
            for index, value in enumerate(node.inputs)
            if value is not None and value in self.floats and index not in fixed
        ]
        narrow = self._is_narrow(node, [value for _, value in inputs])
        wanted = self.type if narrow else DataType.FLOAT
        for index, value in inputs:
            node.replace_input_with(index, self._as(value, wanted, node))
        for value in node.outputs:
            if value in self.floats and narrow:
                value.dtype = self.type
            if narrow or self._is_island(node, [each for _, each in inputs]):
                self.narrow.add(value)
        return narrow

    def _is_island(self, node: Node, inputs: list[Value]) -> bool:
        """Whether what `node` computes in float32 is handed on narrow: a product's always, else as its inputs are."""
        inside = node.op_type in PRODUCTS or any(value in self.narrow for value in inputs)
        return inside and node.op_type in self.islands and node not in self.wide

    def _is_narrow(self, node: Node, inputs: list[Value]) -> bool:
        if node in self.wide or node.op_type in self.islands | STATISTICS or self._beyond_range(inputs):
            return False
        moving = [value for value in inputs if self._constant(value) is None]
        if node.op_type in PRODUCTS and len(moving) < len(inputs):
            return True
        if node.op_type in DIVISIONS and any(value not in self.narrow for value in moving):
            return False
        return any(value in self.narrow for value in moving)

    def _beyond_range(self, inputs: list[Value]) -> bool:
        for value in inputs:
            array = self._constant(value)
            if array is not None and array.size and float(np.abs(array).max()) > LARGEST[self.precision]:
                return True
        return False

    def _constant(self, value: Value) -> npt.NDArray[np.float32] | None:
        if value.const_value is not None and (value.is_initializer() or value.producer() is not None):
            return np.asarray(value.const_value.numpy())
        node = value.producer()
        if node is None or node.op_type != "Constant":
            return None
        (attribute,) = node.attributes.values()
        if attribute.type == ir.AttributeType.TENSOR:
            return np.asarray(attribute.as_tensor().numpy())
        return np.asarray(attribute.value, np.float32)

    def _as(self, value: Value, wanted: DataType, reader: Node) -> Value:
        """`value` in another type: a new constant, or a cast before its first reader, made once."""
        if value.dtype == wanted:
            return value
        key = value, wanted
        if key not in self.copies:
            name, array = f"{value.name}_{wanted.name.lower()}", self._constant(value)
            if array is None:
                self.copies[key] = self._cast_node(value, wanted, name)
                self.graph.insert_before(reader, _producer(self.copies[key]))
            else:
                tensor = ir.tensor(array.astype(wanted.numpy()), wanted, name)
                copy = Value(name=name, type=ir.TensorType(wanted), shape=ir.Shape(array.shape), const_value=tensor)
                self.graph.register_initializer(copy)
                self.copies[key] = copy
        return self.copies[key]

    def _cast_node(self, value: Value, wanted: DataType, name: str) -> Value:
        self.casts += 1
        output = Value(name=name, type=ir.TensorType(wanted), shape=value.shape)
        Node(
            "",
            "Cast",
            [value],
            [ir.AttrInt64("to", int(wanted))],
            outputs=[output],
            name=f"cast_{value.name}_to_{wanted.name.lower()}",
        )
        return output

    def _restore_outputs(self) -> None:
        for index, value in enumerate(self.graph.outputs):
            if value in self.floats and value.dtype == self.type:
                name, value.name = value.name, f"{value.name}_{self.type.name.lower()}"
                restored = self._cast_node(value, DataType.FLOAT, str(name))
                self.graph.append(_producer(restored))
                self.graph.outputs[index] = restored


def emulate(source: Path, out: Path) -> Path:
    """Write a graph that `cast_graph` made in float32 that is rounded wherever the other is narrow.

    A CPU runs it where it has no kernels for the narrow type, with the rounding of every tensor that an engine would
    keep in memory, and sums in float32 as the products of a GPU have them. Engines that fuse round less often.
    """
    model = ir.load(source)
    narrow = set(PRECISIONS.values())
    for value in list(model.graph.initializers.values()):
        if value.dtype in narrow and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.dtype = DataType.FLOAT
    for node in list(model.graph):
        for value in node.outputs:
            if value.dtype not in narrow or value.dtype is None:
                continue
            wanted, uses = value.dtype, list(value.uses())
            value.dtype = DataType.FLOAT
            if node.op_type == "Cast":
                node.attributes["to"] = ir.AttrInt64("to", int(DataType.FLOAT))
            rounded = _cast_after(node, value, wanted)
            back = _cast_after(_producer(rounded), rounded, DataType.FLOAT)
            for use in uses:
                use.node.replace_input_with(use.idx, back)
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    return out


def _cast_after(node: Node, value: Value, wanted: DataType) -> Value:
    output = Value(name=f"{value.name}_as_{wanted.name.lower()}", type=ir.TensorType(wanted), shape=value.shape)
    cast = Node("", "Cast", [value], [ir.AttrInt64("to", int(wanted))], outputs=[output], name=f"cast_{output.name}")
    node.append(cast)
    return output


def _producer(value: Value) -> Node:
    node = value.producer()
    assert node is not None
    return node


def largest_values(source: Path, *clips: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """The largest magnitude of every float32 tensor that a graph computes on any of `clips`, by name; on the CPU.

    Each tensor is reduced inside the graph, so that memory does not grow with their number.

    Args:
        clips: the graph's inputs, by name, once for each clip.
    """
    import onnxruntime

    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    floats = {v.name for v in (*model.graph.value_info, *model.graph.output) if _is_float(v)}
    names = [name for node in model.graph.node for name in node.output if name in floats]
    del model.graph.output[:]
    for index, name in enumerate(names):
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [f"magnitude_{index}"]))
        model.graph.node.append(
            onnx.helper.make_node("ReduceMax", [f"magnitude_{index}"], [f"largest_{index}"], keepdims=0)
        )
        model.graph.output.append(onnx.helper.make_tensor_value_info(f"largest_{index}", onnx.TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    # Else tensors would be fused away that a narrow engine may keep.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # `max` of NumPy hands on NaN, that of Python does not.
    found = np.max([session.run(None, dict(clip)) for clip in clips], axis=0)
    return dict(zip(names, map(float, found), strict=True))


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)

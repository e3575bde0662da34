"""Cast a float32 ONNX graph to float16 or bfloat16 where that is safe: strongly typed engines follow its types.

Which nodes take the narrow type is decided in `type_rules`; here constants are stored in it and casts put between. The
graph's inputs and outputs keep their types, so that stages of different precision fit together.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir import DataType, Graph, Node, Value

from export.errors import ExportError
from export.precision.type_rules import FLOAT32_INPUTS, PRECISIONS, TypeRules, constant_of, wide_nodes

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
        record = _Casting(model.graph, precision, wide_nodes(model.graph, keep, wide_outputs)).run()
    except ExportError as error:
        raise ExportError(f"{source.name}: {error}") from error
    model.opset_imports[""] = max(OPSET, model.opset_imports[""])
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    onnx.checker.check_model(str(out), full_check=True)
    return record


class _Casting:
    """One pass over a sorted graph. `narrow`: the values to be used in the narrow type where there is a choice."""

    def __init__(self, graph: Graph, precision: str, wide: Set[Node]) -> None:
        self.graph, self.precision, self.type = graph, precision, PRECISIONS[precision]
        self.rules = TypeRules(precision, wide)
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
        floats = [value for _, value in inputs]
        narrow = self.rules.is_narrow(node, floats, self.narrow)
        wanted = self.type if narrow else DataType.FLOAT
        for index, value in inputs:
            node.replace_input_with(index, self._as(value, wanted, node))
        for value in node.outputs:
            if value in self.floats and narrow:
                value.dtype = self.type
            if narrow or self.rules.is_island(node, floats, self.narrow):
                self.narrow.add(value)
        return narrow

    def _as(self, value: Value, wanted: DataType, reader: Node) -> Value:
        """`value` in another type: a new constant, or a cast before its first reader, made once."""
        if value.dtype == wanted:
            return value
        key = value, wanted
        if key not in self.copies:
            name, array = f"{value.name}_{wanted.name.lower()}", constant_of(value)
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


def _producer(value: Value) -> Node:
    node = value.producer()
    assert node is not None
    return node

"""Run a narrow graph's rounding on a CPU, which has no kernels for float16 and bfloat16."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType, Node, Value

from export.precision.type_rules import PRECISIONS


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
            rounding, rounded = _cast_after(node, value, wanted)
            _, back = _cast_after(rounding, rounded, DataType.FLOAT)
            for use in uses:
                use.node.replace_input_with(use.idx, back)
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    return out


def _cast_after(node: Node, value: Value, wanted: DataType) -> tuple[Node, Value]:
    output = Value(name=f"{value.name}_as_{wanted.name.lower()}", type=ir.TensorType(wanted), shape=value.shape)
    cast = Node("", "Cast", [value], [ir.AttrInt64("to", int(wanted))], outputs=[output], name=f"cast_{output.name}")
    node.append(cast)
    return cast, output

"""Fused operators in an ONNX graph: each call one node of a domain of their own, and beside the graph what it computes.

A fused operator is a PyTorch custom operator, so the exporter meets one node. In ONNX it stays one: its domain is the
operator's namespace, its attributes are the arguments other than tensors, and its meaning is a model-local function of
standard ONNX operators, exported from the operator's own PyTorch implementation. ONNX Runtime expands such functions
when it loads a file, and TensorRT may take a plugin of the node's name instead. OpenVINO (seen with 2026.4) reads no
model-local functions and refuses the node; graphs for it are expanded here, by `inline`.

A body is exported at the shapes and attribute values of its call, as every graph of ours is, so calls that differ in
them have bodies of their own: overloads of one operator, which ONNX has since its file format 10, the one the exporter
writes. The first body of an operator has no overload name, the next are called "2", "3" and so on. TensorRT's parser
finds bodies by the operator's name alone, so that an overloaded operator needs its plugin there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as ir_passes
import torch
from onnx_ir import AttributeType, DataType, Function, Graph, Model, Node
from onnxscript.values import Op, Opset
from torch import Tensor, nn

from export.errors import ExportError

DOMAIN_VERSION = 1
# By PyTorch's name of an argument's type. ONNX has no attribute that is a bool.
ATTRIBUTE_TYPES = {
    "int": AttributeType.INT,
    "bool": AttributeType.INT,
    "float": AttributeType.FLOAT,
    "str": AttributeType.STRING,
}
INPUT_TYPES = ("Tensor", "Optional[Tensor]")
ELEMENT_TYPES = {
    DataType.FLOAT: torch.float32,
    DataType.FLOAT16: torch.float16,
    DataType.BFLOAT16: torch.bfloat16,
    DataType.UINT8: torch.uint8,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.BOOL: torch.bool,
}

ExportModule = Callable[[nn.Module, tuple[Tensor, ...], Sequence[str], Sequence[str]], Model]
"""Module, example inputs, names of inputs and of outputs, to a graph: however the caller exports all else."""


@dataclass(frozen=True)
class Argument:
    """One argument of an operator: an input of its node, or an attribute."""

    name: str
    kind: str
    """The type by PyTorch's name, e.g. Tensor, int."""
    default: Any

    @property
    def is_input(self) -> bool:
        return self.kind in INPUT_TYPES


@dataclass(frozen=True)
class FusedOperator:
    """A PyTorch operator that is to be one ONNX node. Raises ExportError when a node cannot take its arguments."""

    overload: torch._ops.OpOverload
    """E.g. torch.ops.auralsam2.memory_attention.default; its namespace becomes the node's domain."""
    op_type: str
    """E.g. MemoryAttention."""
    body: Callable[..., Tensor | tuple[Tensor, ...]]
    """What it computes, in plain PyTorch; takes the operator's arguments by position."""

    def __post_init__(self) -> None:
        allowed = (*INPUT_TYPES, *ATTRIBUTE_TYPES)
        for argument in self.arguments:
            if argument.kind not in allowed:
                raise ExportError(
                    f"{self.overload}: {argument.name} is a {argument.kind}; a node takes {', '.join(allowed)}."
                )
        for returned in self.overload._schema.returns:
            if str(returned.type) != "Tensor":
                raise ExportError(f"{self.overload} returns a {returned.type}; a node returns single tensors.")

    @property
    def domain(self) -> str:
        return str(self.overload.namespace)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(
            Argument(each.name, str(each.type), each.default_value if each.has_default_value() else None)
            for each in self.overload._schema.arguments
        )

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.is_input)

    @property
    def attributes(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if not argument.is_input)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output_{index}" for index in range(len(self.overload._schema.returns)))


def translations(operators: Iterable[FusedOperator]) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Build the `custom_translation_table` with which torch.onnx.export makes one node of each call.

    The nodes have no meaning yet: `add_functions` gives it to them.
    """
    return {operator.overload: _translation(operator) for operator in operators}


def _translation(operator: FusedOperator) -> Callable[..., Any]:
    node = Op(Opset(operator.domain, DOMAIN_VERSION), operator.op_type, _schema(operator))

    def translate(*given: Any, **named: Any) -> Any:
        values = {argument.name: argument.default for argument in operator.arguments}
        values |= dict(zip(values, given, strict=False)) | named
        inputs = [values[argument.name] for argument in operator.inputs]
        return node(*inputs, **{argument.name: values[argument.name] for argument in operator.attributes})

    return translate


def _schema(operator: FusedOperator) -> onnx.defs.OpSchema:
    """The node's signature in ONNX's words; the type of each tensor is its own matter."""
    schema = onnx.defs.OpSchema
    option = {"Tensor": schema.FormalParameterOption.Single, "Optional[Tensor]": schema.FormalParameterOption.Optional}
    inputs = [schema.FormalParameter(a.name, f"T_{a.name}", param_option=option[a.kind]) for a in operator.inputs]
    outputs = [schema.FormalParameter(name, f"T_{name}") for name in operator.output_names]
    elements = [f"tensor({element.name.lower()})" for element in ELEMENT_TYPES]
    return schema(
        operator.op_type,
        operator.domain,
        DOMAIN_VERSION,
        inputs=inputs,
        outputs=outputs,
        type_constraints=[(each.type_str, elements, "") for each in (*inputs, *outputs)],
        attributes=[
            schema.Attribute(a.name, schema.AttrType[ATTRIBUTE_TYPES[a.kind].name], required=True)
            for a in operator.attributes
        ],
    )


def add_functions(model: Model, operators: Iterable[FusedOperator], export_module: ExportModule) -> None:
    """Give every fused node its body: one for all calls of equal types, shapes and attribute values.

    Args:
        model: as torch.onnx.export made it with `translations`, tidied or not; changed in place.
        export_module: exports a body, tidied; its graph goes into `model`. The inputs it is given are zeros.
    Raises: ExportError where an input has no fixed shape, or a body is not made of standard operators.
    """
    table = {(operator.domain, operator.op_type): operator for operator in operators}
    bodies: dict[tuple[str, str], list[_Call]] = {key: [] for key in table}
    for node in model.graph.all_nodes():
        key = node.domain, node.op_type
        if key not in table:
            continue
        call = _call(table[key], node)
        if call not in bodies[key]:
            bodies[key].append(call)
            function = _function(call, _overload(len(bodies[key])), export_module)
            model.functions[function.identifier()] = function
        node.overload = _overload(bodies[key].index(call) + 1)


def _overload(number: int) -> str:
    return "" if number == 1 else str(number)


def inline(model: Model) -> None:
    """Put its body in the place of every fused node, for engines that read no model-local functions.

    The constants of a body come once for each call; tidying the graph afterwards leaves one of each.
    """
    ir_passes.InlinePass()(model)
    ir_passes.RemoveUnusedOpsetsPass()(model)


@dataclass(frozen=True)
class _Call:
    """All that a body depends on."""

    operator: FusedOperator
    attributes: tuple[Any, ...]
    inputs: tuple[tuple[torch.dtype, tuple[int, ...]] | None, ...]
    """None where an optional tensor is not given."""


def _call(operator: FusedOperator, node: Node) -> _Call:
    # Optional tensors at the end of the list are left off the node when not given.
    values = [*node.inputs, *[None] * (len(operator.inputs) - len(node.inputs))]
    inputs: list[tuple[torch.dtype, tuple[int, ...]] | None] = []
    for argument, value in zip(operator.inputs, values, strict=True):
        if value is None:
            inputs.append(None)
        elif value.dtype in ELEMENT_TYPES and value.shape is not None and value.shape.is_static():
            inputs.append((ELEMENT_TYPES[value.dtype], tuple(value.shape.numpy())))
        else:
            raise ExportError(
                f"{operator.op_type} {node.name}: {argument.name} is {value.type} {value.shape}; a body is exported at"
                f" a fixed shape, in one of {', '.join(element.name for element in ELEMENT_TYPES)}."
            )
    return _Call(operator, tuple(node.attributes[a.name].value for a in operator.attributes), tuple(inputs))


class _Body(nn.Module):
    """An operator's PyTorch implementation as a function of the tensors that a call gives."""

    def __init__(self, call: _Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        operator = self.call.operator
        tensor, given, attribute = iter(tensors), iter(self.call.inputs), iter(self.call.attributes)
        values: list[Any] = []
        for argument in operator.arguments:
            if argument.is_input:
                values.append(None if next(given) is None else next(tensor))
            else:
                values.append(bool(next(attribute)) if argument.kind == "bool" else next(attribute))
        found = operator.body(*values)
        return (found,) if isinstance(found, Tensor) else found


def _function(call: _Call, overload: str, export_module: ExportModule) -> Function:
    operator = call.operator
    given = {argument.name: each for argument, each in zip(operator.inputs, call.inputs, strict=True) if each}
    zeros = tuple(torch.zeros(shape, dtype=dtype) for dtype, shape in given.values())
    graph = export_module(_Body(call), zeros, tuple(given), operator.output_names).graph
    others = sorted({f"{node.domain}::{node.op_type}" for node in graph.all_nodes() if node.domain})
    if others:
        raise ExportError(f"{operator.op_type}: the body has {', '.join(others)}; only standard ONNX operators fit.")
    _initializers_to_nodes(graph)
    for index, argument in enumerate(operator.inputs):
        if argument.name not in given:
            graph.inputs.insert(index, ir.Value(name=argument.name))
    declared = [ir.Attr(argument.name, ATTRIBUTE_TYPES[argument.kind], None) for argument in operator.attributes]
    return Function(operator.domain, operator.op_type, overload, graph=graph, attributes=declared)


def _initializers_to_nodes(graph: Graph) -> None:
    """A function holds no initializers; its constants are nodes, before all others."""
    constants = []
    for name, value in list(graph.initializers.items()):
        output = ir.Value(name=name, type=value.type, shape=value.shape)
        attribute = ir.Attr("value", AttributeType.TENSOR, value.const_value)
        constants.append(Node("", "Constant", [], [attribute], outputs=[output], name=f"node_{name}"))
        value.replace_all_uses_with(output, replace_graph_outputs=True)
        del graph.initializers[name]
    graph.insert_before(graph[0], constants)

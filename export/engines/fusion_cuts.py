"""Take the audio-visual fusions out of a graph, and put chains of TensorRT plugins where they were.

A graph that is cut has more outputs, what a fusion reads, and more inputs, what it gives. Between them are standard
operators, which can be cast to a narrow type as any graph can. A chain is joined in with casts where types differ.

How TensorRT's ONNX parser finds a plugin: by the node's operator, which is the plugin's name, and by its attributes
`plugin_namespace` and `plugin_version`; a node that has the former is looked for among plugins first. Version "1" is
the one that `tensorrt.plugin` registers. The attribute `aot` asks for the compiled kernel and for nothing else, and
outranks the network's flags PREFER_AOT_PYTHON_PLUGINS and PREFER_JIT_PYTHON_PLUGINS. Inputs that are initializers
become constants. Types and shapes come from the plugin; those that the file gives are for everyone else.

Source  the parser, `onnx/onnx-tensorrt`: ModelImporter.cpp (which nodes are plugins), onnxOpImporters.cpp (inputs),
        importerUtils.cpp (`aot`), and its change log: compiled Python plugins since 10.9. NVIDIA's sample
        `quickly_deployable_plugins` names the same attributes. The parser of TensorRT-RTX 1.7 was seen to look in the
        same way; it refuses plugins of this kind, and its package has no `plugin` module to register them with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as ir_passes
import torch
from onnx_ir import DataType, Graph, Model, Node, Value

from export.errors import ExportError
from export.graphs.operator_functions import DOMAIN_VERSION
from kernels.fusion.weights import FusionWeights
from kernels.plugins.chains import NAMESPACE, Chain, PluginKernel
from kernels.plugins.symbolic_sizes import evaluate

OPERATOR = "AudioVisualFusion"
PLUGIN_VERSION = "1"
ELEMENTS = {torch.float32: DataType.FLOAT, torch.float16: DataType.FLOAT16, torch.bfloat16: DataType.BFLOAT16}


@dataclass(frozen=True)
class FusionSizes:
    """What chooses a chain: fusions that agree in it share one. Frames and tokens are open in a chain."""

    form: str
    num_pixels: int
    width: int
    inner: int


@dataclass(frozen=True)
class FusionCut:
    """Where a fusion was."""

    name: str
    sizes: FusionSizes
    reads: Mapping[str, str]
    """`visual` and `audio`: the outputs of the cut graph."""
    gives: Mapping[str, str]
    """`frame` and `sound`: the inputs of the cut graph."""
    weights: Mapping[str, Value]


def cut_fusions(model: Model) -> list[FusionCut]:
    """Take every fusion out of `model`, and its function.

    Raises: ExportError where there is none, or one whose tensors are not float32 of fixed shape with stored weights.
    """
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (NAMESPACE, OPERATOR)]
    if not nodes:
        raise ExportError(f"the graph has no {OPERATOR}; export the stage with its operators kept (inlined=False).")
    cuts = [_cut(model.graph, node, f"fusion_{number}") for number, node in enumerate(nodes, 1)]
    for key in [key for key in model.functions if key[:2] == (NAMESPACE, OPERATOR)]:
        del model.functions[key]
    return cuts


def _cut(graph: Graph, node: Node, name: str) -> FusionCut:
    tensors = {
        what: _check_tensor(node, what, value)
        for what, value in zip(("visual", "audio", *FusionWeights._fields), node.inputs, strict=True)
    }
    weights = {what: tensors[what] for what in FusionWeights._fields}
    computed = [what for what, value in weights.items() if value.const_value is None]
    if computed:
        raise ExportError(f"{node.name}: {', '.join(computed)} is computed; plugins take stored weights.")
    _, num_pixels, width = shape_of(tensors["visual"])
    _, inner = shape_of(tensors["frame_out"])
    cut = FusionCut(
        name,
        FusionSizes(node.attributes["form"].as_string(), num_pixels, width, inner),
        {what: f"{name}_{what}" for what in ("visual", "audio")},
        {what: f"{name}_{what}" for what in ("frame", "sound")},
        weights,
    )
    # What is read or given may be an input or an output of the graph; the identities give it a name of its own.
    for what, end in cut.reads.items():
        read = _identity(tensors[what], end)
        graph.insert_before(node, read)
        graph.outputs.append(read.outputs[0])
    for end, value in zip(cut.gives.values(), node.outputs, strict=True):
        given = Value(name=end, type=value.type, shape=value.shape)
        graph.inputs.append(given)
        handed_on = _identity(given, value.name)
        graph.insert_before(node, handed_on)
        value.replace_all_uses_with(handed_on.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return cut


def _check_tensor(node: Node, what: str, value: Value | None) -> Value:
    if value is None or value.dtype != DataType.FLOAT or value.shape is None or not value.shape.is_static():
        raise ExportError(f"{node.name}: {what} is not a float32 tensor of fixed shape.")
    return value


def _identity(value: Value, name: str | None) -> Node:
    output = Value(name=name, type=value.type, shape=value.shape)
    return Node("", "Identity", [value], outputs=[output], name=f"identity_{name}")


def shape_of(value: Value) -> tuple[int, ...]:
    assert value.shape is not None
    return tuple(value.shape.numpy())


def join_chain(model: Model, cut: FusionCut, chain: Chain, dtype: torch.dtype) -> None:
    """Put `chain`, which computes in `dtype`, where the fusion was; its ends in `model` are float32.

    Raises: ExportError where a kernel takes another shape.
    """
    graph, element = model.graph, ELEMENTS[dtype]
    inputs, outputs = ({value.name: value for value in values} for values in (graph.inputs, graph.outputs))
    held = {what: _store_weight(graph, value, element) for what, value in cut.weights.items()}
    for what, end in cut.reads.items():
        graph.outputs.remove(outputs[end])
        held[what] = _cast(graph, outputs[end], element)
    for kernel in chain.kernels:
        node = _plugin_node(cut.name, kernel, [held[what] for what in kernel.inputs])
        graph.append(node)
        held |= dict(zip(kernel.outputs, node.outputs, strict=True))
    for what, end in cut.gives.items():
        graph.inputs.remove(inputs[end])
        inputs[end].replace_all_uses_with(_cast(graph, held[what], DataType.FLOAT))
    graph.sort()
    model.opset_imports[NAMESPACE] = DOMAIN_VERSION


def _plugin_node(prefix: str, kernel: PluginKernel, inputs: Sequence[Value]) -> Node:
    known = kernel.values([shape_of(value) for value in inputs])
    for (what, buffer), value in zip(kernel.inputs.items(), inputs, strict=True):
        wanted = ELEMENTS[buffer.dtype], tuple(evaluate(axis, known) for axis in buffer.shape)
        if (value.dtype, shape_of(value)) != wanted:
            raise ExportError(
                f"{prefix}: {what} is {value.dtype} {shape_of(value)}; {kernel.function} takes {wanted[0]} {wanted[1]}."
            )
    outputs = [
        Value(
            name=f"{prefix}_{what}_{kernel.function}",
            type=ir.TensorType(ELEMENTS[buffer.dtype]),
            shape=ir.Shape([evaluate(axis, known) for axis in buffer.shape]),
        )
        for what, buffer in kernel.outputs.items()
    ]
    attributes = [
        ir.AttrString("plugin_namespace", NAMESPACE),
        ir.AttrString("plugin_version", PLUGIN_VERSION),
        ir.AttrInt64("aot", 1),
    ]
    name = f"{prefix}_{kernel.function}"
    return Node(NAMESPACE, kernel.name, inputs, attributes, outputs=outputs, name=name, version=DOMAIN_VERSION)


def _store_weight(graph: Graph, weight: Value, element: DataType) -> Value:
    """A weight as an initializer of `element`, once for all that read it."""
    name = f"{weight.name}_plugin"
    if name not in graph.initializers:
        assert weight.const_value is not None
        array = weight.const_value.numpy().astype(element.numpy())
        tensor = ir.tensor(array, element, name)
        graph.register_initializer(
            Value(name=name, type=ir.TensorType(element), shape=ir.Shape(array.shape), const_value=tensor)
        )
    return graph.initializers[name]


def _cast(graph: Graph, value: Value, element: DataType) -> Value:
    if value.dtype == element:
        return value
    name = f"{value.name}_{element.name.lower()}"
    output = Value(name=name, type=ir.TensorType(element), shape=value.shape)
    graph.append(Node("", "Cast", [value], [ir.AttrInt64("to", int(element))], outputs=[output], name=f"cast_{name}"))
    return output


def tidy_joints(model: Model) -> None:
    """Drop the identities at the cuts, and casts to float32 that are only cast back: they change nothing."""
    ir_passes.IdentityEliminationPass()(model)
    for node in [node for node in model.graph if node.op_type == "Cast" and not node.domain]:
        wide, narrow = node.inputs[0], node.outputs[0]
        before = None if wide is None else wide.producer()
        if wide is None or wide.dtype != DataType.FLOAT or before is None or before.op_type != "Cast":
            continue
        original = before.inputs[0]
        if original is not None and original.dtype == narrow.dtype and not narrow.is_graph_output():
            narrow.replace_all_uses_with(original)
    ir_passes.RemoveUnusedNodesPass()(model)

"""One stage to one ONNX file: exported with torch.export, shapes fixed, weights inside the file where they fit."""

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as ir_passes
import torch
from onnx_ir import Model
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import TensorSpec
from export.errors import ExportError
from export.graphs.fused_operators import OPERATORS
from export.graphs.operator_functions import FusedOperator, add_functions, inline, translations

OPSET = 18
DTYPES = {"FP32": torch.float32, "UINT8": torch.uint8}
# A protobuf message ends at 2 GiB; larger graphs would keep their weights beside the file. None of ours comes near.
MAX_BYTES = 2**31 - 1


def example(stage: Stage, spec: TensorSpec) -> Tensor:
    """Make a tensor of the graph's shape and type, for tracing only."""
    return torch.zeros(stage.graph_shape(spec), dtype=DTYPES[spec.dtype])


def export_stage(stage: Stage, path: Path, *, inlined: bool = True) -> Path:
    """Write `stage` to `path` as ONNX (opset 18), with the specification's names on its inputs and outputs.

    Args:
        inlined: the fused operators are written out in standard operators, as OpenVINO needs it: it reads no
            functions. Else each is a node of the domain `auralsam2` with a function as its body, which ONNX Runtime
            runs as it is and TensorRT may replace.
    Raises: ExportError when the exporter, the checker or the size limit refuses.
    """
    module = stage.module.eval().requires_grad_(False)
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if size > MAX_BYTES:
        raise ExportError(f"{stage.name}: {size} bytes of weights; one ONNX file holds at most {MAX_BYTES}.")
    arguments = tuple(example(stage, spec) for spec in stage.inputs)
    names = ([spec.name for spec in stage.inputs], [spec.name for spec in stage.outputs])
    try:
        model = to_onnx(module, arguments, *names)
        add_functions(model, OPERATORS, to_onnx)
    except ExportError as error:
        raise ExportError(f"{stage.name}: {error}") from error
    if inlined:
        inline(model)
        _tidy(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, path)
    _check(stage, path)
    return path


def to_onnx(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    operators: Iterable[FusedOperator] = OPERATORS,
) -> Model:
    """Trace the module at the shapes of `arguments`, and tidy its graph, in which fused operators have no body yet."""
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns about its own internals; what matters is checked on the finished file.
        warnings.simplefilter("ignore")
        for noisy in ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            optimize=False,
            verbose=False,
            custom_translation_table=translations(operators),
        )
    if program is None:
        raise ExportError("the ONNX exporter returned nothing.")
    _tidy(program.model)
    return program.model


def _tidy(model: Model) -> None:
    """Fold constants, share them, and drop what nobody reads.

    The exporter's own `optimize=True` also tries some 35 rewrite rules on every node: it took 25 of the 42 s that the
    decoder of five frames cost, 18 with these passes, for a graph that the engines, which fuse for themselves, run no
    faster (EXPERIMENTS.md).
    """
    # Equal nodes become one before they are folded: what every frame makes of a weight is then made, and kept, once.
    common = ir_passes.CommonSubexpressionEliminationPass()
    common(model)
    _fold_splits(model)
    # With types, which the exporter leaves out inside an attention, the casts between equal types go.
    fold_constants(model, onnx_shape_inference=True)
    for tidy in (
        common,
        ir_passes.RemoveUnusedNodesPass(),
        # All of them: TensorRT asks some constants, such as the axes of a sum, to be initializers.
        ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        # Of every size; the plain pass leaves out what is larger than 1024 elements.
        ir_passes.DeduplicateInitializersPass(size_limit=MAX_BYTES),
        # The exporter notes the stack trace of every node: paths of this machine, and other bytes on another.
        ir_passes.ClearMetadataAndDocStringPass(),
    ):
        tidy(model)


def _fold_splits(model: Model) -> None:
    """Cut constants that are split into constants of their own: folding leaves nodes of several outputs as they are."""
    graph = model.graph
    for node in [node for node in graph if node.op_type == "Split" and not node.domain]:
        whole, parts = node.inputs[0], node.outputs
        shapes = [part.shape for part in parts if part.shape is not None and not part.is_graph_output()]
        if whole is None or whole.const_value is None or not whole.is_initializer() or len(shapes) < len(parts):
            continue
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        ends = np.cumsum([shape[axis] for shape in shapes])
        for part, array in zip(parts, np.split(whole.const_value.numpy(), ends[:-1], axis), strict=True):
            tensor = ir.tensor(np.ascontiguousarray(array), name=part.name)
            constant = ir.Value(name=part.name, type=whole.type, shape=part.shape, const_value=tensor)
            part.replace_all_uses_with(constant)
            graph.register_initializer(constant)
        graph.remove(node, safe=True)


def _check(stage: Stage, path: Path) -> None:
    """The file on disk is valid ONNX and its inputs and outputs are the specification's, name, type and shape."""
    graph = onnx.load(path).graph
    onnx.checker.check_model(str(path))
    elements = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.UINT8: "UINT8"}
    for specs, values in ((stage.inputs, graph.input), (stage.outputs, graph.output)):
        wanted = [(spec.name, spec.dtype, stage.graph_shape(spec)) for spec in specs]
        found = [
            (
                value.name,
                elements.get(value.type.tensor_type.elem_type, "other"),
                tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
            )
            for value in values
        ]
        if wanted != found:
            raise ExportError(f"{stage.name}: {path.name} has {found}; the specification says {wanted}.")

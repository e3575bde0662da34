"""Measure how large the tensors of a graph become: float16 ends at 65504."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx


def largest_values(source: Path, *clips: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Measure, on the CPU, the largest magnitude of every float32 tensor that a graph computes on any of `clips`.

    Each tensor is reduced inside the graph, so that memory does not grow with their number.

    Args:
        clips: the graph's inputs, by name, once for each clip.
    Returns: magnitudes by the names of the tensors.
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

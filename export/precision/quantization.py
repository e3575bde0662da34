"""Post-training quantisation to int8, by NNCF: the linear layers of Hiera's trunk and of the fuser's visual blocks.

They hold nearly all of a clip's arithmetic. What is small and sensitive stays as it is: convolutions (patches,
laterals, neck), the products of attention, the fusion, VGGish and the decoder. Scales come from clips of the procedural
world. Quantised graphs enter only by the gate, and by the masks that they give on clips that gave no scales; where all
of these layers at once do not pass, their MLPs alone are tried.
"""

import itertools
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation.quality import mean_iou
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.media.stills.frames import resize_frames
from export.errors import ExportError, ParityError
from export.graphs.chain import run_clip, split_calls
from export.reports import Report
from model_repository.stage_runtime.engine import INT8, Array, Engine, load_engine

QUANTISED = ("hiera", "aural_fuser")
SCOPES = ("all linear layers", "MLPs alone")
"""From the widest to the narrowest."""
# Widths out and in of a block's layers: projections; keys with values, or a stage that widens; MLPs.
RATIOS = (1, 2, 4)
# Clips of five frames; the extremes of activations settle early, and at 1024 px a clip takes minutes.
CALIBRATION_CLIPS = 2
CHECKED_CLIPS = 8
# Of the masks with those of float32. On `compact`, 40 clips: all linear layers 0.958 (M_J 0.830 against 0.838), MLPs
# alone 0.981 (0.835).
LEAST_MASK_IOU = 0.97
# Fewer rows are the sound's: T of them cost nothing in float32, and prompt the decoder directly.
MANY_TOKENS = 48
EXPORTED_LINEAR = "node_MatMul"
"""The exporter's name for the product of a linear layer on tokens [B, N, C]; what the fusion multiplies has others."""


@dataclass(frozen=True)
class Quantised:
    """What was done to one graph."""

    layers: int
    """Linear layers whose weights and inputs are int8 now."""
    scope: str


def linear_layers(model: onnx.ModelProto, scope: str) -> list[str]:
    """Name the nodes that `scope` quantises: products of many tokens with a constant matrix."""
    matrices = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or not node.name.startswith(EXPORTED_LINEAR) or node.input[1] not in matrices:
            continue
        rows, columns = matrices[node.input[1]]
        ratio = max(rows, columns) / min(rows, columns)
        wanted = RATIOS if scope == SCOPES[0] else RATIOS[-1:]
        if math.prod(shapes[node.output[0]][:-1]) >= MANY_TOKENS and ratio in wanted:
            found.append(node.name)
    return found


def quantise(source: Path, out: Path, samples: list[dict[str, Array]], scope: str) -> Quantised:
    """Write the graph `source` as `out` with int8 linear layers, between quantise and dequantise nodes.

    Args:
        samples: inputs of the graph, one dictionary a call.
        scope: one of SCOPES.
    Raises: ExportError when NNCF is not installed, or the graph has no such layer.
    """
    try:
        import nncf
    except ImportError as error:
        raise ExportError(
            f"nncf is not installed ({error}); int8 is made with it. Install it with: pip install nncf"
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = onnx.load(source)
    layers = linear_layers(model, scope)
    if not layers:
        raise ExportError(f"{source.parent.parent.name}: no linear layer for int8 ({scope}). Export with float32.")
    kept = [node.name for node in model.graph.node if node.name not in set(layers)]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(samples),
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        # It looks for the bias of products that have none (3.4), and stops there.
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    )
    onnx.save(quantised, out)
    return Quantised(len(layers), scope)


def calibration(
    stages: tuple[Stage, ...], graphs: Mapping[str, Path], num_frames: int, image_size: int
) -> dict[str, list[dict[str, Array]]]:
    """Collect inputs of the quantised stages, call by call, as float32 graphs see clips of the procedural world."""
    samples: dict[str, list[dict[str, Array]]] = {name: [] for name in QUANTISED}
    of_clips = _clips(slice(CALIBRATION_CLIPS), num_frames, image_size)
    for stage in stages[:-1]:
        engine: Engine = load_engine("onnxruntime", graphs[stage.name], keep_memory=False)
        for wire in of_clips:
            if stage.name in samples:
                samples[stage.name] += split_calls(engine, wire)
            if stage.name != QUANTISED[-1]:
                wire |= run_clip(engine, wire)
        del engine
    return samples


def quantise_stages(
    graphs: Mapping[str, Path], samples: Mapping[str, list[dict[str, Array]]], scope: str, folder: Path, report: Report
) -> dict[str, Path]:
    """Quantise the stages' graphs: QUANTISED ones are replaced by int8 ones, written into `folder`."""
    found: dict[str, Any] = dict(graphs)
    for name in QUANTISED:
        found[name] = folder / f"{name}-int8.onnx"
        done = quantise(graphs[name], found[name], samples[name], scope)
        report(f"int8       {name:13} {done.layers} layers ({scope})")
    return found


def mask_iou(
    stages: tuple[Stage, ...], wide: Mapping[str, Path], narrow: Mapping[str, Path], num_frames: int, image_size: int
) -> float:
    """Mean over the frames of clips that gave no scales: IoU of the masks of `narrow` with those of `wide`."""
    masks = []
    for graphs in (wide, narrow):
        clips = _clips(slice(CALIBRATION_CLIPS, CALIBRATION_CLIPS + CHECKED_CLIPS), num_frames, image_size)
        for stage in stages:
            engine = load_engine("openvino", graphs[stage.name], precision=INT8)
            for wire in clips:
                wire |= run_clip(engine, wire)
            del engine
        masks.append(np.concatenate([wire["MASK_LOGITS"] for wire in clips]) > 0)
    return mean_iou(*masks)


def check_mask_iou(found: float, scope: str) -> None:
    """Raise ParityError when int8 moved the masks too far."""
    if found < LEAST_MASK_IOU:
        raise ParityError(
            f"int8 ({scope}): masks have an IoU of {found:.4f} with float32's on held-out clips, at least"
            f" {LEAST_MASK_IOU} asked for. It was not put into the repository. A wider type may pass: --precision auto."
        )


def _clips(which: slice, num_frames: int, image_size: int) -> list[dict[str, Array]]:
    samples = read_split("multi", which.stop, num_frames=num_frames)
    return [
        {"FRAMES": resize_frames(sample.frames, image_size), "AUDIO": sample.windows}
        for sample in itertools.islice(samples, which.start or 0, which.stop)
    ]

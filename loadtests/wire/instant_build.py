"""A build whose stages answer at once, for the real server: what is left of a call is the way there and back.

Its models are rendered and its runtime is copied as for any build for a CPU; only the graphs give ones for whatever
comes, and what stages hand on has few channels, so that a clip's features cost next to nothing between them.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper
from torch import nn

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import (
    DECODER,
    ENSEMBLE,
    FEATURES_ENSEMBLE,
    MODELS,
    PROMPT_MODE,
    RESULTS,
    SESSION,
    STAGE_NAMES,
    WINDOW_SAMPLES,
    Sizes,
    TensorSpec,
    tensors,
)
from export.builds.graphs import graph_file
from export.builds.manifest import manifest
from export.builds.models import write_models
from export.builds.triton_config import parse, sizes
from export.graphs.onnx_graph import OPSET
from export.settings import ExportSettings

CHANNELS = 8
"""Of what stages hand on; a network has 64 to 256, and hands on up to 0.2 GB a clip."""
TOLERANCE = 1e-6
_TYPES = {"FP32": TensorProto.FLOAT, "UINT8": TensorProto.UINT8}
# The decoder's own graphs for prompts are not there; clips go by their sound.
_DECODER_CODE = '''"""Ones for whatever comes, by the sound alone."""

from stage_runtime.adapter import DecoderModel, clip_size
from stage_runtime.prompts.stages import DecoderStage


class TritonPythonModel(DecoderModel):
    def logic(self, parts):
        return DecoderStage(parts.stage, None, clip_size(parts))
'''


def write_instant_build(build: Path, image_size: int, num_frames: int = 5) -> Path:
    """Write a build for clips of that size into `build`, which is not there yet. Takes about a second."""
    settings = ExportSettings(preset="compact", image_size=image_size, num_frames=num_frames, precision="float32")
    models, small = build / "models", Sizes(num_frames, image_size, CHANNELS)
    stages = tuple(_stage(name, sizes(settings)) for name in STAGE_NAMES)
    for stage in stages:
        path = graph_file(models, stage.name)
        path.parent.mkdir(parents=True)
        _write_graph(path, _stage(stage.name, small))
    write_models(settings, stages, models, "float32")
    for name in (FEATURES_ENSEMBLE, SESSION):
        shutil.rmtree(models / name)
    for name in (*STAGE_NAMES, ENSEMBLE):
        _shrink(models / name / "config.pbtxt", small)
    (models / DECODER / "1" / "model.py").write_text(_DECODER_CODE)
    _write_golden(build / "golden.npz", small)
    record = manifest(settings, build, [], {}) | {"name": f"instant-{image_size}-t{num_frames}", "weights": "none"}
    (build / "manifest.json").write_text(json.dumps(record, indent=1))
    return build


def _stage(name: str, of: Sizes) -> Stage:
    """A stage of the contract, without what it hands on."""
    model = MODELS[name]
    handed_on = {*model.inputs} & {*model.outputs}
    given, made = (
        tensors([each for each in names if each not in (*handed_on, PROMPT_MODE)], of)
        for names in (model.inputs, (each for each in model.outputs if each in (*RESULTS, *_all_handed())))
    )
    return Stage(name, nn.Identity(), given, made, of.num_frames)


def _all_handed() -> set[str]:
    """What stages take from each other."""
    return {each for name in STAGE_NAMES for each in MODELS[name].inputs}


def _write_graph(path: Path, stage: Stage) -> None:
    """A graph of constants."""
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            [f"{spec.name}_shape"],
            [spec.name],
            value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        )
        for spec in stage.outputs
    ]
    shapes = [
        helper.make_tensor(f"{spec.name}_shape", TensorProto.INT64, [len(spec.shape)], spec.shape)
        for spec in stage.outputs
    ]
    graph = helper.make_graph(nodes, stage.name, _infos(stage.inputs), _infos(stage.outputs), initializer=shapes)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)


def _infos(specs: Sequence[TensorSpec]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], spec.shape) for spec in specs]


def _shrink(path: Path, small: Sizes) -> None:
    """Give a configuration the shapes of few channels."""
    config = parse(path.read_text())
    for entry in (*config.input, *config.output):
        entry.dims[:] = tensors([entry.name], small)[0].shape
    path.write_text(text_format.MessageToString(config))


def _write_golden(path: Path, small: Sizes) -> None:
    answers = {spec.name: np.ones(spec.shape, np.float32) for spec in tensors(RESULTS, small)}
    np.savez_compressed(
        path,
        allow_pickle=False,
        FRAMES=np.zeros((small.num_frames, small.image_size, small.image_size, 3), np.uint8),
        AUDIO=np.zeros((small.num_frames, WINDOW_SAMPLES, 2), np.float32),
        **answers,
        **{f"TOLERANCE_{name}": np.float32(TOLERANCE) for name in answers},
    )

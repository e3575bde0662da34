"""The graphs of prompts, exported beside the decoder's: they share one file of weights."""

import json
from pathlib import Path

import numpy as np

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.stages.prompt_stages import memory_sizes, prompt_constants, prompt_stages
from export.graphs.onnx_graph import export_stage
from export.graphs.shared_weights import share_weights
from model_repository.stage_runtime.engine import file_sha256
from model_repository.stage_runtime.prompts.decoder import CONSTANTS, INDEX, WEIGHTS

INDEX_FORMAT = 2


def export_prompt_graphs(model: SoundingSAM2, num_frames: int, folder: Path) -> None:
    """Write graphs, weights, constants and the index that names and hashes them into `folder`.

    Raises: ExportError as `export_stage`.
    """
    stages = prompt_stages(model, num_frames)
    graphs = [export_stage(stage, folder / f"{stage.name}.onnx") for stage in stages]
    share_weights(graphs, folder / WEIGHTS)
    arrays = {name: value.numpy() for name, value in prompt_constants(model).items()}
    np.savez(folder / CONSTANTS, allow_pickle=False, **arrays)
    index = {
        "format": INDEX_FORMAT,
        "num_frames": num_frames,
        "memory_sizes": list(memory_sizes(num_frames)),
        "files": {path.name: file_sha256(path) for path in (*graphs, folder / WEIGHTS, folder / CONSTANTS)},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

"""The manifest of a build: what was exported, from which weights, with which versions, and the hash of every file."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from auralsam2.checkpoints import fetch
from auralsam2_client.contract import BUILD_FORMAT
from export.gates.parity import OutputParity
from export.graphs.onnx_graph import OPSET
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import file_sha256

VERSIONED_PACKAGES = ("torch", "sam2", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")


def manifest(
    settings: ExportSettings, build: Path, parity: list[OutputParity], seconds: dict[str, float]
) -> dict[str, Any]:
    """Describe the files below `build`, all of them written, as JSON.

    Args:
        parity: what the gates measured.
        seconds: that the export of each graph took.
    """
    files = sorted(path for path in build.rglob("*") if path.is_file())
    return {
        "format": BUILD_FORMAT,
        "name": settings.name,
        "preset": settings.preset,
        "method": settings.method,
        "image_size": settings.size,
        "num_frames": settings.num_frames,
        "conditioning_frame": settings.conditioning_frame,
        "read_out": settings.read_out,
        "target": settings.target,
        "engine": settings.engine,
        "precision": settings.precision,
        "fusion": settings.fusion,
        "classes": list(settings.class_names),
        "text": settings.text,
        "class_head_sha256": _checkpoint_hash(settings.class_head_file if settings.classes else None),
        "capabilities": list(settings.capabilities),
        "weights": settings.weights_sentence,
        "trained_on": settings.trained_on,
        "checkpoint_sha256": _checkpoint_hash(settings.weights_file),
        "sam2_checkpoint_sha256": _checkpoint_hash(settings.sam2_file),
        "opset": OPSET,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES},
        },
        "export_seconds": seconds,
        "parity": [p.as_record() for p in parity],
        "files": {path.relative_to(build).as_posix(): file_sha256(path) for path in files},
    }


def _checkpoint_hash(reference: str | None) -> str | None:
    return None if reference is None else file_sha256(fetch(reference))

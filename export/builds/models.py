"""The models of a build, as the server loads them: beside each graph its configuration, and for a CPU its code."""

import shutil
from pathlib import Path

import auralsam2
import auralsam2_client.contract
import auralsam2_client.enlarging
import auralsam2_client.words
import kernels
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import (
    CLASS_HEAD,
    DECODER,
    ENSEMBLE,
    FEATURES_ENSEMBLE,
    FUSER,
    NETWORK,
    SESSION,
    TEXT_ENCODER,
    Parameter,
)
from export.builds.graphs import graph_file, vocabulary_file
from export.builds.triton_config import TEMPLATES, check_stage, render, render_gpu
from export.engines.engine_graphs import graph_path
from export.settings import ONE_PROCESS, ExportSettings
from model_repository.stage_runtime.engine import file_sha256

RUNTIME = "stage_runtime"
# Of the runtime, what computes in PyTorch; and of the house, what that imports: the network and its kernels.
IN_PYTORCH = "pytorch"
MODEL_FILES = {"cpu": "model.py", "cuda": "pytorch_model.py"}
NOT_SERVED = ("__pycache__", "weights", "data", "evaluation", "training", "compiled.json", "*.md")


def write_models(
    settings: ExportSettings,
    stages: tuple[Stage, ...],
    models: Path,
    precision: str,
    *,
    jpeg_keeps_masks: bool = False,
) -> None:
    """Write configurations and code below `models`, where the graphs of a CPU are already.

    Args:
        precision: that the stages of a CPU are served in.
        jpeg_keeps_masks: what was measured of JPEG on the wire.
    Raises: ExportError for a configuration that does not fit its stage.
    """
    for stage in stages:
        folder = models / stage.name
        graph = (
            graph_path(models.parent, stage.name) if settings.target == "tensorrt" else graph_file(models, stage.name)
        )
        sha256 = file_sha256(graph)
        if settings.target == "cpu":
            _write_code(settings, stage.name, folder)
            text = render(
                settings,
                stage.name,
                jpeg_keeps_masks,
                frames_per_call=stage.frames_per_call,
                sha256=sha256,
                precision=precision,
                **_hashes_beside(settings, models, stage.name),
            )
        else:
            text = render_gpu(settings, stage, sha256)
        check_stage(text, stage, settings.method, settings.text)
        (folder / "config.pbtxt").write_text(text)
    without_graph = (ENSEMBLE, FEATURES_ENSEMBLE, SESSION) if settings.target == "cpu" else (ENSEMBLE,)
    for name in without_graph:
        (models / name / "1").mkdir(parents=True)
        text = render(settings, name, jpeg_keeps_masks, precision=precision)
        (models / name / "config.pbtxt").write_text(text)
    if SESSION in without_graph:
        _write_code(settings, SESSION, models / SESSION)


def _hashes_beside(settings: ExportSettings, models: Path, name: str) -> dict[str, str]:
    """Hashes of what lies beside a stage's graph, by parameter."""
    found: dict[str, Path] = {}
    if settings.classes and name == DECODER:
        found[Parameter.CLASS_HEAD_SHA256] = graph_file(models, CLASS_HEAD)
    if settings.text and name == FUSER:
        found[Parameter.TEXT_ENCODER_SHA256] = graph_file(models, TEXT_ENCODER)
        found[Parameter.VOCABULARY_SHA256] = vocabulary_file(models)
    return {parameter: file_sha256(path) for parameter, path in found.items()}


def write_pytorch_models(
    settings: ExportSettings, stages: tuple[Stage, ...], models: Path, sha256: str, *, jpeg_keeps_masks: bool = False
) -> None:
    """Write configurations and code of a build for target cuda below `models`, where the weights are already.

    Args:
        sha256: of the file of weights.
        jpeg_keeps_masks: what was measured of JPEG on the wire.
    Raises: ExportError for a configuration that does not fit its stage.
    """
    parameters: dict[str, str | int] = {
        "frames_per_call": settings.num_frames,
        "sha256": sha256,
        "precision": settings.precision,
    }
    by_name = {stage.name: stage for stage in stages}
    computing = [NETWORK] if settings.layout == ONE_PROCESS else [*by_name]
    for name in (*computing, ENSEMBLE, FEATURES_ENSEMBLE, SESSION):
        (models / name / "1").mkdir(parents=True, exist_ok=True)
        text = render(settings, name, jpeg_keeps_masks, **parameters)
        if name in by_name:
            check_stage(text, by_name[name], settings.method)
        (models / name / "config.pbtxt").write_text(text)
    for name in (*computing, SESSION):
        _write_code(settings, name, models / name)


def _write_code(settings: ExportSettings, name: str, folder: Path) -> None:
    """Write a Python model's model.py, and beside it the runtime and what the client shares, by the names imported.

    What computes in PyTorch brings the network's own code too: what is served is what was compared.
    """
    shutil.copy2(TEMPLATES / name / "1" / MODEL_FILES[settings.target], folder / "1" / "model.py")
    without = NOT_SERVED if settings.target == "cuda" else (*NOT_SERVED, IN_PYTORCH)
    shutil.copytree(TEMPLATES / RUNTIME, folder / "1" / RUNTIME, ignore=shutil.ignore_patterns(*without))
    if settings.target == "cuda":
        for computing in (auralsam2, kernels):
            code = Path(computing.__file__ or "").parent
            shutil.copytree(code, folder / "1" / code.name, ignore=shutil.ignore_patterns(*NOT_SERVED))
    # A package of what both sides share: what else the client has is not there.
    package = folder / "1" / "auralsam2_client"
    package.mkdir()
    (package / "__init__.py").touch()
    for shared in (auralsam2_client.contract, auralsam2_client.enlarging, auralsam2_client.words):
        shutil.copy2(shared.__file__ or "", package)

"""The models of a build, as the server loads them: beside each graph its configuration, and for a CPU its code."""

import shutil
from pathlib import Path

import auralsam2_client.contract
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import ENSEMBLE, FEATURES_ENSEMBLE, SESSION
from export.builds.graphs import graph_file
from export.builds.triton_config import TEMPLATES, check_stage, render, render_gpu
from export.engines.engine_graphs import graph_path
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import file_sha256

RUNTIME = "stage_runtime"


def write_models(settings: ExportSettings, stages: tuple[Stage, ...], models: Path, precision: str) -> None:
    """Write configurations and code below `models`, where the graphs of a CPU are already.

    Args:
        precision: that the stages of a CPU are served in.
    Raises: ExportError for a configuration that does not fit its stage.
    """
    for stage in stages:
        folder = models / stage.name
        graph = (
            graph_path(models.parent, stage.name) if settings.target == "tensorrt" else graph_file(models, stage.name)
        )
        sha256 = file_sha256(graph)
        if settings.target == "cpu":
            _write_code(stage.name, folder)
            text = render(
                settings, stage.name, frames_per_call=stage.frames_per_call, sha256=sha256, precision=precision
            )
        else:
            text = render_gpu(settings, stage, sha256)
        check_stage(text, stage)
        (folder / "config.pbtxt").write_text(text)
    without_graph = (ENSEMBLE, FEATURES_ENSEMBLE, SESSION) if settings.target == "cpu" else (ENSEMBLE,)
    for name in without_graph:
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(render(settings, name, precision=precision))
    if SESSION in without_graph:
        _write_code(SESSION, models / SESSION)


def _write_code(name: str, folder: Path) -> None:
    """Write a Python model's model.py, and beside it the runtime and the contract, by the names that it imports."""
    shutil.copy2(TEMPLATES / name / "1" / "model.py", folder / "1" / "model.py")
    shutil.copytree(TEMPLATES / RUNTIME, folder / "1" / RUNTIME, ignore=shutil.ignore_patterns("__pycache__"))
    # A package of one module: what else the client has is not there.
    source = Path(auralsam2_client.contract.__file__)
    package = folder / "1" / source.parent.name
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy2(source, package)

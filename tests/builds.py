"""Builds that tests of several rooms read."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from filelock import FileLock

from export.builds.repository import build_repository
from export.graphs.onnx_graph import export_stage
from export.graphs.stages import Stage
from export.settings import ExportSettings

# 224 px: the 14 x 14 map, at which the released fusion's tokens straddle channels.
SMALL = ExportSettings(preset="compact", image_size=224, num_frames=2, precision="float32")


def built_once(settings: ExportSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build as `auralsam2 export` writes it, to be read only: one for all workers of a test run."""
    build = _of_all_workers(tmp_path_factory) / settings.name
    with FileLock(build.with_suffix(".lock")):
        return build if build.is_dir() else build_repository(settings, build)


def copy_to_serve(build: Path, folder: Path) -> Path:
    """A copy of a build, its files linked: a server leaves a cache and compiled Python in what it serves, and others
    read what export wrote and nothing else.
    """
    return Path(shutil.copytree(build, folder / build.name, copy_function=os.link))


def exported_once(kind: str, stages: Iterable[Stage], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Graphs by stage, to be read only, one set of a `kind` for all workers of a test run."""
    folder, graphs = _of_all_workers(tmp_path_factory) / kind, dict[str, Path]()
    with FileLock(folder.with_suffix(".lock")):
        for stage in stages:
            graphs[stage.name] = folder / f"{stage.name}.onnx"
            if not graphs[stage.name].is_file():
                export_stage(stage, graphs[stage.name])
    return graphs


def _of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "builds"
    folder.mkdir(exist_ok=True)
    return folder

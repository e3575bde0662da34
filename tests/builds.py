"""Builds that tests of several rooms read."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from export.repository import build_repository
from export.settings import ExportSettings

# 224 px: the 14 x 14 map, at which the released fusion's tokens straddle channels.
SMALL = ExportSettings(preset="compact", image_size=224, num_frames=2, precision="float32")


def built_once(settings: ExportSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build as `auralsam2 export` writes it, to be read only: one for all workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    build = folder / "builds" / settings.name
    build.parent.mkdir(exist_ok=True)
    with FileLock(build.with_suffix(".lock")):
        return build if build.is_dir() else build_repository(settings, build)

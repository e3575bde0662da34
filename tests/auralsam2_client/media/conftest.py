"""Fixtures of the media tests. Helpers that make clips live in clips.py; tests reach them as the fixture `clips`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    # Under --import-mode=importlib a test cannot import its neighbour by name.
    spec = importlib.util.spec_from_file_location("service_test_clips", Path(__file__).with_name("clips.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def clip(clips: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s at 10 frames a second with sound. Read only."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    written: Path = clips.write_clip(path, clips.grey_frames(30), sound=clips.tone(3.0))
    return written

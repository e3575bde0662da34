"""Fixtures of the media tests. Helpers that make clips live in clips.py; tests reach them as the fixture `clips`."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.auralsam2_client.media import clips as helpers
from tests.auralsam2_client.media.films import filming


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    return helpers


@pytest.fixture(scope="session")
def clip(clips: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s at 10 frames a second with sound. Read only."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    written: Path = clips.write_clip(path, clips.grey_frames(30), sound=clips.tone(3.0))
    return written


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 s that tell their pictures and seconds, H.264 and AAC in MP4. Read only."""
    return filming.film(tmp_path_factory.mktemp("film") / "film.mp4", 7)

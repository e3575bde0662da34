"""The demo's clip as the tests of the served network ask for it, and a client of the server."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auralsam2.data.world.showpiece import showpiece
from auralsam2_client.calls.client import Client
from auralsam2_client.media.reader import Media, read_media
from auralsam2_client.media.sound_windows import windows
from tests.auralsam2_client.media import clips as helpers


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """Helpers that make clips, from auralsam2_client/media/clips.py."""
    return helpers


@pytest.fixture(scope="module")
def media(demo_clip: Path) -> Media:
    return read_media(str(demo_clip))


@pytest.fixture(scope="module")
def heard(media: Media) -> NDArray[np.float32]:
    return windows(media.sound, len(media.frames)).samples


@pytest.fixture(scope="module")
def truth() -> NDArray[np.bool_]:
    return np.asarray(showpiece().truth)


@pytest.fixture
def client(served_compact: Any) -> Iterator[Client]:
    with Client(served_compact.config.grpc_url) as client:
        yield client

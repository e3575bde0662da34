"""Fixtures of the command line's tests."""

from types import ModuleType

import pytest

from tests.auralsam2_client.media import clips as helpers


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """Helpers that make clips, from auralsam2_client/media/clips.py."""
    return helpers

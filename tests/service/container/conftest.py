"""What the tests of the entry point share."""

from pathlib import Path

import pytest

from tests.service.container.surroundings import CARDS, STUB, Surroundings, program


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """Not root, no GPU, and the stand-in of the command line tool."""
    around = Surroundings(tmp_path)
    around.volume.mkdir()
    program(tmp_path / "bin" / "auralsam2", STUB)
    program(tmp_path / "bin" / "id", "echo 1000")
    program(tmp_path / "bin" / "nvidia-smi", CARDS["none"])
    return around

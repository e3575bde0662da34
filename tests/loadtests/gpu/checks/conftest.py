"""Where checks are tried without a card."""

from pathlib import Path

import pytest

from loadtests.gpu.checks.check import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("cpu", tmp_path)

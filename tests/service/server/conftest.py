"""What the tests of an installed server share: its home, and one card in the machine. Helpers: toy/installed.py."""

from pathlib import Path

import pytest

from tests.service.toy.installed import card, on_path, write_home, write_smi


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_home(tmp_path_factory.mktemp("installed") / "tritonserver", "onnxruntime", "tensorrt")


@pytest.fixture
def one_l4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path / "smi", card())))

"""What a file of weights says of the data that it was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from auralsam2 import checkpoints
from auralsam2.errors import CheckpointError
from auralsam2.model.shipped import shipped_weights
from auralsam2_client.contract import PROCEDURAL_WORLD


def test_the_shipped_weights_say_that_they_know_the_procedural_world() -> None:
    path = shipped_weights("compact")
    assert path is not None
    assert checkpoints.trained_on(str(path)) == PROCEDURAL_WORLD


@pytest.mark.parametrize(("said", "found"), [({checkpoints.TRAINED_ON: "AVSBench V1M"}, "AVSBench V1M"), ({}, "")])
def test_the_header_of_a_safetensors_file_says_it_or_nothing_does(
    said: dict[str, str], found: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, metadata={"preset": "compact", **said})
    assert checkpoints.trained_on(str(path)) == found
    assert checkpoints.header(str(path)) == {"preset": "compact", **said}


def test_what_torch_saved_says_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    assert checkpoints.trained_on(str(tmp_path / "a.pth")) == ""


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("a page to log in")
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        checkpoints.trained_on(str(tmp_path / "a.safetensors"))
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoints.trained_on(str(tmp_path / "b.safetensors"))

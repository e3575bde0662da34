"""`segment --text`, against a stand-in of the client: the sentence goes with every clip; a long one goes nowhere."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from auralsam2_client.calls import client as client_module
from auralsam2_client.calls.segmentation import Segmentation
from tests.service.commands.test_segmenting import StandIn, segment


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "Client", StandIn)


@pytest.mark.parametrize("sound", ["--audio", "--no-audio"])
def test_a_text_is_said_of_every_clip_with_sound_or_without(
    tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch, sound: str
) -> None:
    asked: list[dict[str, Any]] = []
    answer = StandIn.segment

    def note(self: StandIn, frames: np.ndarray, audio: np.ndarray, **says: Any) -> Segmentation:
        asked.append(says)
        return answer(self, frames, audio, **says)

    monkeypatch.setattr(StandIn, "segment", note)
    folder = clips.write_folder(tmp_path / "frames", 7)  # two clips of five
    result = segment(folder, "--silent", "--no-overlay", sound, "--text", "a star", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [(says["text"], says["use_audio"]) for says in asked] == [("a star", sound == "--audio")] * 2


def test_a_text_of_too_many_words_is_refused_before_the_clip_is_read(tmp_path: Path) -> None:
    result = segment(tmp_path / "absent.mp4", "--text", "star " * 26, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "text of 26 words; 25 are read. Say it in fewer." in " ".join(result.output.split())

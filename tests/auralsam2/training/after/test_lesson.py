"""A lesson's run: a killed one goes on, Ctrl-C says where, the weights say what they went through."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.training.after import lesson
from auralsam2.training.after.lesson import Lesson, Report, Settings, teach
from auralsam2.training.run.interruption import TrainingInterrupted
from auralsam2_client.contract import PROCEDURAL_WORLD


class Small(Lesson):
    """One embedding comes nearer to a drawn number."""

    NAME, STREAM = "small", 7

    def __init__(self, model: AuralSAM2, settings: Settings) -> None:
        super().__init__(model, settings)
        self.weight = model.v_model.requires_grad_(False).no_mem_embed
        self.parameters = [self.weight]
        self.weight.requires_grad_(True)
        groups = [{"params": self.parameters, "share": 0.5}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"distance": (self.weight - float(rng.uniform())).square().mean()}


def begin(model: AuralSAM2, settings: Settings, report: Report) -> Small:
    return Small(model, settings)


def finish(out: Path, settings: Settings, stop_after_s: float = float("inf")) -> Path | None:
    with torch.enable_grad():
        return teach(begin, out, settings, lambda line: None, stop_after_s)


def test_a_run_that_was_stopped_after_each_step_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = Settings(steps=3)
    whole = finish(tmp_path / "whole", settings)
    assert finish(tmp_path / "parts", settings, 0.0) is None
    assert finish(tmp_path / "parts", settings, 0.0) is None
    parts = finish(tmp_path / "parts", settings)
    assert whole is not None
    assert parts is not None
    assert checkpoints.header(str(whole)) == checkpoints.header(str(parts))
    tensors = checkpoints.read(str(parts))
    # The header's keys lie in any order, so that the bytes differ.
    assert all(torch.equal(value, tensors[key]) for key, value in checkpoints.read(str(whole)).items())


def test_weights_say_what_they_went_through_and_what_they_know(tmp_path: Path) -> None:
    first = finish(tmp_path / "first", Settings(steps=2))
    assert first is not None
    second = finish(tmp_path / "second", Settings(steps=1, checkpoint=str(first)))
    said = checkpoints.header(str(second))
    assert said["small_steps"] == "2+1"
    assert said["prompt_steps"] == "4200", "as the shipped weights say"
    assert said[checkpoints.TRAINED_ON] == PROCEDURAL_WORLD


def test_ctrl_c_saves_the_last_whole_step_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advance, out = Lesson.advance, tmp_path / "small"

    def stopping(self: Lesson) -> dict[str, float]:
        if self.step == 1:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(Lesson, "advance", stopping)
    with pytest.raises(TrainingInterrupted, match=r"step 1 of 2; .*small\.pt"):
        finish(out, Settings(steps=2))
    monkeypatch.setattr("sys.argv", ["small", "--out", str(out), "--steps", "2", "--threads", "1"])
    with pytest.raises(SystemExit) as caught, torch.enable_grad():
        lesson.command("small", "", begin, Settings())
    assert caught.value.code == 130
    assert f"interrupted; step 1 of 2 is saved in {out / 'small.pt'}. The same" in capsys.readouterr().err
    monkeypatch.setattr(Lesson, "advance", advance)
    with torch.enable_grad():
        lesson.command("small", "", begin, Settings())
    assert "goes on    step 1" in capsys.readouterr().out
    assert (out / "weights-float16.safetensors").is_file()

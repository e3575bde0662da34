"""`auralsam2 train`: what it says, and that the command it names after a stop goes on."""

import functools
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from auralsam2.training.examples.clips import Example, Source
from auralsam2.training.run import learner, pretraining_phase
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start import pretraining, starting
from auralsam2.training.start.pretraining import Schedule
from service.commands.cli import app
from tests.auralsam2.training.run.delivered import deliver

TINY = ["--image-size", "224", "--num-frames", "1", "--clips-per-step", "1", "--workers", "1", "--recipe", "project"]


@pytest.fixture(autouse=True)
def _two_clips_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)


def run(*arguments: str | Path) -> Any:
    with torch.enable_grad():
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ctrl_c(*_arguments: object) -> Any:
    raise KeyboardInterrupt


def terminated(number: int, num_frames: int) -> Example:
    deliver(signal.SIGTERM)
    raise AssertionError("the signal comes first")


def test_the_command_that_a_stop_names_goes_on_in_both_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining_phase, "Schedule", functools.partial(Schedule, frames_per_step=2, clips_per_step=1))
    out = tmp_path / "my run"
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "pictures", ctrl_c)
        result = run("train", "-o", out, *TINY, "--steps", "2", "--no-audio-contrast")
    assert result.exit_code == 130
    assert "device cpu, precision float32" in result.output
    assert (
        "pretraining first, in steps: sounds 1, pictures 1 (in proportion to --steps 2; --pretraining-steps"
        in result.output
    )
    assert f"interrupted; step 1 of 2 of the pretraining is saved in {out / 'checkpoint.pt'}. Go" in result.output
    program, *command = shlex.split(result.output.splitlines()[-1])
    assert program == "auralsam2"
    assert "--no-audio-contrast" in command
    assert str(out) in command

    source_of, calls = learner.source_of, list[int]()

    def terminating(settings: TrainSettings) -> Source:
        source = source_of(settings)

        def counted(number: int, num_frames: int) -> Example:
            calls.append(number)
            # The first clips are those whose sounds VGGish starts from; then comes a step's.
            return (terminated if len(calls) == starting.NUM_CLIPS + 2 else source)(number, num_frames)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(learner, "source_of", terminating)
        result = run(*command)
    assert result.exit_code == 143, "SIGTERM is heard as Ctrl-C is, and has a code of its own"
    assert f"goes on from step 1 of 2 of the pretraining ({out / 'checkpoint.pt'})" in result.output
    assert "pretraining first" not in result.output
    assert "pretraining on pictures, step 1/1" in result.output
    assert "pretraining on sounds, step" not in result.output, "that was done before"
    assert f"interrupted; step 1 of 2 is saved in {out / 'checkpoint.pt'}. Go on with:" in result.output
    assert shlex.split(result.output.splitlines()[-1])[1:] == command
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert f"goes on from step 1 of 2 ({out / 'checkpoint.pt'})" in result.output
    assert "step 2/2" in result.output
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_stop_before_anything_was_done_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "source_of", ctrl_c)
    result = run("train", "-o", tmp_path, *TINY, "--steps", "2400")
    assert result.exit_code == 130
    assert "pretraining first, in steps: sounds 150, pictures 800\n" in result.output
    assert "interrupted; what was saved before, if anything, is whole" in result.output
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--device", "cuda"], 3, "or take --device cpu"),
        (["--device", "tpu"], 3, "device 'tpu' is unknown; choose one of cpu, cuda, auto"),
        (["--precision", "float16"], 3, "precision 'float16' is unknown"),
        (["--pretraining-steps", "-1"], 3, "pretraining_image_steps -1; must be at least 0"),
        (["--no-pretraining", "--pretraining-steps", "9"], 2, "give one of the two"),
    ],
)
def test_what_cannot_be_trained_is_named(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("train", "-o", tmp_path / "run", *arguments)
    assert result.exit_code == code, result.output
    assert words in result.output
    assert not (tmp_path / "run").exists()


def test_training_from_the_command_line_resumes(tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        "train",
        "-o",
        tmp_path,
        "--image-size",
        "224",
        "--num-frames",
        "1",
        "--steps",
        "3",
        "--workers",
        "1",
    ]
    arguments += ["--clips-per-step", "1", "--no-pretraining", "--recipe", "project"]
    first = run(*arguments, "--stop-at", "2")
    assert first.exit_code == 0, first.output
    assert "recipe project" in first.output
    assert "step 2/2" in first.output
    assert "min left" in first.output
    second = run(*arguments)
    assert second.exit_code == 0, second.output
    assert "step 3/3" in second.output
    assert "weights.safetensors; judge it with: auralsam2 evaluate --checkpoint" in second.output
    other = run(*arguments, "--seed", "4")
    assert other.exit_code == 3
    assert "belongs to another run: seed 0, now 4" in other.output
    assert (tmp_path / "weights-float16.safetensors").stat().st_size < 25_000_000


def test_training_is_by_the_released_recipe_unless_another_is_named(tmp_path: Path) -> None:
    arguments = ["train", "--image-size", "224", "--num-frames", "2", "--steps", "1", "--workers", "1"]
    arguments += ["--clips-per-step", "1", "--no-pretraining"]
    result = run(*arguments, "-o", tmp_path / "released", "--learning-rate", "0.0002")
    assert result.exit_code == 0, result.output
    assert "recipe released, recipe_changes learning_rate 0.0002" in " ".join(result.output.split())
    assert "--recipe project is made for that" in " ".join(result.output.split())
    with safe_open(tmp_path / "released" / "weights.safetensors", "pt") as file:
        assert file.metadata()["recipe"] == "released"
    unknown = run(*arguments, "-o", tmp_path / "unknown", "--recipe", "mine")
    assert unknown.exit_code == 3
    assert "choose one of released, paper, project" in " ".join(unknown.output.split())

"""A run that is stopped in either phase, by a kill or by Ctrl-C, ends with the weights of one that was not.

Stops are raised within this process, at steps that the test names; no clock says when.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
import torch
from safetensors.torch import load_file

from auralsam2.errors import TrainingError
from auralsam2.training import run_folder
from auralsam2.training.examples.clips import Source
from auralsam2.training.recipes import settings_for
from auralsam2.training.run import learner, pretraining_phase
from auralsam2.training.run.interruption import TrainingInterrupted
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.loop import Progress
from auralsam2.training.run.trainer import train
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start import lessons, pretraining, starting
from auralsam2.training.start.pretraining import Schedule

P = ParamSpec("P")
R = TypeVar("R")
NEVER_S = float("inf")
# By the released recipe batch norms count what passes, so that a step that is half done must be undone.
SETTINGS = settings_for(
    "released",
    image_size=224,
    num_frames=2,
    steps=3,
    clips_per_step=2,
    workers=1,
    pretraining_sound_steps=2,
    pretraining_image_steps=2,
)
Event = tuple[str, int]
"""Phase or lesson, and the step of it that is done."""
EVENTS: list[Event] = [("sounds", 1), ("sounds", 2), ("pictures", 1), ("pictures", 2), ("steps", 1), ("steps", 2)]
EVENTS += [("steps", 3)]


class Killed(BaseException):
    """What no code of a run catches: as far as it can tell, the process is gone."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)
    small = functools.partial(Schedule, frames_per_step=2, clips_per_step=1)
    monkeypatch.setattr(pretraining_phase, "Schedule", small)


def run_until(folder: Path, stop: Callable[[Event], None], every_s: float, settings: TrainSettings = SETTINGS) -> None:
    """One session, which tells `stop` each step that is done."""

    def of_pretraining(lesson: str, step: int, steps: int, loss: float) -> None:
        stop((lesson, step))

    def of_steps(progress: Progress) -> None:
        stop(("steps", progress.step))

    train(settings, folder, report=of_steps, report_pretraining=of_pretraining, checkpoint_every_s=every_s)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    folder, seen = tmp_path_factory.mktemp("whole"), list[Event]()
    with pytest.MonkeyPatch.context() as patch, torch.enable_grad():
        patch.setattr(starting, "NUM_CLIPS", 2)
        patch.setattr(pretraining_phase, "Schedule", functools.partial(Schedule, frames_per_step=2, clips_per_step=1))
        run_until(folder, seen.append, NEVER_S)
    assert seen == EVENTS
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    wanted, found = (load_file(f / run_folder.WEIGHTS) for f in (whole, folder))
    assert set(wanted) == set(found)
    for name, value in wanted.items():
        assert torch.equal(value, found[name]), name


def test_killed_after_every_step_of_both_phases(tmp_path: Path, whole: Path) -> None:
    """Each session does one step and dies; what it wrote is all that the next one has."""
    for wanted in EVENTS:
        seen = list[Event]()

        def kill(event: Event, seen: list[Event] = seen) -> None:
            seen.append(event)
            raise Killed

        with pytest.raises(Killed):
            run_until(tmp_path, kill, 0)
        assert seen == [wanted], "the session before had got so far"
    run_until(tmp_path, lambda event: pytest.fail(f"{event} was done before"), NEVER_S)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    ("kill_at", "goes_on_with"), [("sounds", "sounds"), ("pictures", "sounds"), ("steps", "steps")]
)
def test_killed_between_checkpoints_it_goes_on_from_the_last(
    tmp_path: Path, whole: Path, kill_at: str, goes_on_with: str
) -> None:
    """The pretraining's end is a checkpoint; without one of the clock's, all before it is done a second time."""

    def kill(event: Event) -> None:
        if event == (kill_at, 2):
            raise Killed

    with pytest.raises(Killed):
        run_until(tmp_path, kill, NEVER_S)
    seen = list[Event]()
    run_until(tmp_path, seen.append, NEVER_S)
    assert seen[0] == (goes_on_with, 1)
    assert_same(tmp_path, whole)


def interrupt_at(call: int, function: Callable[P, R]) -> Callable[P, R]:
    """Let Ctrl-C come in that call of a function, counted from 1."""
    left = call

    def counting(*arguments: P.args, **named: P.kwargs) -> R:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    return counting


def test_ctrl_c_in_the_middle_of_a_step_saves_the_last_whole_one(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_of = learner.source_of

    def stopping_source(settings: TrainSettings) -> Source:
        # The first clips are those whose sounds VGGish starts from.
        return interrupt_at(starting.NUM_CLIPS + 4, source_of(settings))

    stops: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
        (lambda p: p.setattr(pretraining, "sounds", interrupt_at(2, lessons.sounds)), "step 1 of 4 of the pretraining"),
        (
            lambda p: p.setattr(pretraining, "pictures", interrupt_at(2, lessons.pictures)),
            "step 3 of 4 of the pretraining",
        ),
        # Two clips a step: the fourth is the second one of the second step, and the first has moved the batch norms.
        (lambda p: p.setattr(learner, "source_of", stopping_source), "step 1 of 3"),
    ]
    for arrange, done in stops:
        with monkeypatch.context() as patch:
            arrange(patch)
            with pytest.raises(TrainingInterrupted) as caught:
                run_until(tmp_path, lambda event: None, NEVER_S)
        assert caught.value.done == done
        assert caught.value.checkpoint == tmp_path / run_folder.CHECKPOINT
        assert caught.value.checkpoint.is_file()
        assert not (tmp_path / run_folder.WEIGHTS).exists()
    run_until(tmp_path, lambda event: None, NEVER_S)
    assert_same(tmp_path, whole)


def test_a_step_that_is_half_done_leaves_no_trace() -> None:
    learning = Learner(SETTINGS, starting.Weights())
    before = {name: value.clone() for name, value in learning.model.state_dict().items()}
    learning.accumulate([0], 1.0)
    assert any(not torch.equal(value, before[name]) for name, value in learning.model.state_dict().items())
    learning.drop()
    for name, value in learning.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in learning.parameters)
    learning.accumulate([0], 1.0)
    learning.update()
    after = {name: value.clone() for name, value in learning.model.state_dict().items()}
    learning.drop()
    for name, value in learning.model.state_dict().items():
        assert torch.equal(value, after[name]), f"{name} of a step that is whole"


def test_a_pretrainings_checkpoint_is_of_its_run_alone(tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        raise Killed

    with pytest.raises(Killed):
        run_until(tmp_path, kill, 0)
    with pytest.raises(TrainingError, match=r"belongs to another run: seed 0, now 7\. Resume with its settings"):
        train(replace(SETTINGS, seed=7), tmp_path)


def test_the_first_step_starts_without_the_pretrainings_gradients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = list[bool]()
    accumulate = Learner.accumulate

    def noting(self: Learner, numbers: list[int], share: float) -> torch.Tensor:
        seen.append(all(parameter.grad is None for parameter in self.model.parameters()))
        return accumulate(self, numbers, share)

    monkeypatch.setattr(Learner, "accumulate", noting)
    train(replace(SETTINGS, recipe="project", train_sam2=None, train_vggish=None), tmp_path, stop_at=1)
    assert seen == [True]

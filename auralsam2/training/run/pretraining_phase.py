"""The first phase of a run that starts from nothing: it checkpoints, stops and goes on as the second does."""

from typing import Any

from auralsam2.training.run.interruption import TrainingInterrupted, hold_signals
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.saving import Saver
from auralsam2.training.start.pretraining import Pretraining, Report, Schedule


def is_of_pretraining(state: dict[str, Any] | None) -> bool:
    """Tell whether a checkpoint was written before the pretraining was over."""
    return state is not None and "pretraining" in state


def pretrain(learner: Learner, state: dict[str, Any] | None, saver: Saver, report: Report) -> None:
    """Pretrain the learner's network, from the start or from a checkpoint's `state`; save what the steps start from.

    Raises: TrainingInterrupted when Ctrl-C came: the state is saved, and the step under way dropped. CheckpointError
        when the checkpoint does not fit, or what was learned is not finite.
    """
    settings = learner.settings
    image_steps, sound_steps = settings.pretraining_steps
    schedule = Schedule(image_steps, sound_steps)
    phase = Pretraining(learner.model, settings.seed, schedule, settings.forward_precision)
    if state is not None:
        phase.restore(state)
        saver.found(_done(phase))
    try:
        with phase.unfreeze():
            while not phase.done:
                lesson, steps = phase.lesson, phase.lesson_steps
                loss = phase.accumulate()
                with hold_signals():
                    phase.update()
                if saver.due:
                    saver.save(phase.state(), _done(phase))
                report(lesson, steps if phase.lesson != lesson else phase.lesson_step, steps, loss.item())
    except KeyboardInterrupt:
        with hold_signals(again=False):
            saver.save(phase.state(), _done(phase))
        raise TrainingInterrupted(saver.path, _done(phase)) from None
    saver.save(learner.state(), f"step 0 of {settings.steps}")


def _done(phase: Pretraining) -> str:
    return f"step {phase.step} of {phase.schedule.steps} of the pretraining"

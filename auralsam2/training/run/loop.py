"""The loop of steps, the same in every worker; a loss that is not finite ends it in all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from auralsam2.errors import TrainingError
from auralsam2.training.run.interruption import hold_signals
from auralsam2.training.run.learner import LOSSES, Learner
from auralsam2.training.run.workers import average, clip_numbers


@dataclass(frozen=True)
class Progress:
    """What a step reports."""

    step: int
    """Steps done, of all sessions together."""
    steps: int
    rate: float
    gradient_norm: float
    losses: dict[str, float]
    """Means over the step's clips, by the names of LOSSES."""
    step_s: float


def take_steps(
    learner: Learner, rank: int, stop_at: int, after: Callable[[Progress], None], last_good: Callable[[], str]
) -> None:
    """Train until `stop_at` steps are done.

    Args:
        after: called after every step.
        last_good: names the last checkpoint, for the error.
    Raises: TrainingError that names step, clips and checkpoint when a loss is not finite.
    """
    settings = learner.settings
    while learner.step < stop_at:
        started = time.monotonic()
        step = learner.step
        losses = learner.accumulate(clip_numbers(settings, step, rank), 1 / settings.clips_of(step))
        if settings.workers > 1:
            losses = average(learner, losses)
        if not torch.isfinite(losses).all():
            first = clip_numbers(settings, step, 0)[0]
            raise TrainingError(
                f"the loss is not finite in step {step} (clips {first} to {first + settings.clips_of(step) - 1} of seed"
                f" {settings.seed}). Last good checkpoint: {last_good()}. Start again with a lower --learning-rate."
            )
        with hold_signals():
            norm = learner.update()
        values = dict(zip(LOSSES, losses.tolist(), strict=True))
        after(Progress(learner.step, settings.steps, settings.rate(step), norm, values, time.monotonic() - started))

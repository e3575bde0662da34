"""What every lesson after the training shares: a step, a run that goes on after a kill, its command.

A lesson is a function of settings and step alone: what is drawn follows from both, and a checkpoint holds the rest.
"""

import argparse
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.shipped import shipped_weights
from auralsam2.training.run.interruption import TrainingInterrupted, hold_signals
from auralsam2.training.run_folder import HALF_WEIGHTS, save_weights
from auralsam2_client.new_file import new_file

CHECKPOINT_EVERY_S = 60.0
WARM_UP = 50
REPORT_EVERY = 50

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """One run. The same settings and folder: the same run, continued."""

    clips: int = 240
    steps: int = 4200
    checkpoint: str | None = None
    """The trained network that is to learn; None: the shipped one."""
    learning_rate: float = 1e-3
    seed: int = 0


class Lesson(ABC):
    """Network, optimiser and what one step does to them. A kind of lesson gives names, losses and parameters."""

    NAME: ClassVar[str]
    """Of its checkpoint, and of its steps in the header of the weights."""
    STREAM: ClassVar[int]
    """Of its random numbers."""

    parameters: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    """Of groups with a "share" of the learning rate each."""

    def __init__(self, model: AuralSAM2, settings: Settings) -> None:
        self.model, self.settings, self.step = model, settings, 0

    @abstractmethod
    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of one step, by name; their sum is what falls."""

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed run needs."""
        return {"step": self.step, "sam": self.model.v_model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def update(self) -> None:
        """Take the optimiser's step, and what belongs to it."""
        self.optimiser.step()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.v_model.load_state_dict(state["sam"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def weights(self) -> Mapping[str, Tensor]:
        """Collect the tensors that are written at the end, by name."""
        return self.model.state_dict()

    def about(self) -> dict[str, str]:
        """Tell what the weights say of themselves: what those said that the lesson began with, and its steps."""
        before, key = checkpoints.header(self.began()), f"{self.NAME}_steps"
        steps = "+".join(filter(None, (before.get(key), str(self.settings.steps))))
        preset, size = self.model.preset.name, self.model.image_size
        return {**before, "preset": preset, "image_size": str(size), key: steps}

    def began(self) -> str:
        """Name the file of weights that the lesson began with."""
        return self.settings.checkpoint or str(shipped_weights(self.model.preset.name))

    def advance(self) -> dict[str, float]:
        """Take one step; return its losses. Everything drawn is a function of seed and step."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.STREAM, self.step])
        done = self.step / settings.steps
        rate = settings.learning_rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        losses = self.losses(rng)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        with hold_signals():
            self.update()
            self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}


def teach(
    begin: Callable[[AuralSAM2, Settings, Report], Lesson],
    out: Path,
    settings: Settings,
    report: Report,
    stop_after_s: float = math.inf,
) -> Path | None:
    """Run a lesson to its end, or until the time is up; then the weights' file, or None.

    Args:
        begin: makes the lesson of a network.
        out: checkpoint and weights are written here; a run that was stopped goes on.
    Raises: TrainingInterrupted when Ctrl-C came: the last whole step is saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    model, _ = load_aural_sam2("compact", checkpoint=settings.checkpoint)
    lesson = begin(model, settings, report)
    path = out / f"{lesson.NAME}.pt"
    if path.is_file():
        lesson.restore(checkpoints.load_torch(path))
        report(f"goes on    step {lesson.step}")
    try:
        if not _take_steps(lesson, path, report, started, stop_after_s):
            return None
    except KeyboardInterrupt:
        _save(lesson, path, again=False)
        raise TrainingInterrupted(path, f"step {lesson.step} of {settings.steps}") from None
    return save_weights(out / HALF_WEIGHTS, lesson.weights(), lesson.about(), half=True)


def _take_steps(lesson: Lesson, path: Path, report: Report, started: float, stop_after_s: float) -> bool:
    """Whether the end was reached in time; either way what was learned is saved."""
    saved, sums = time.monotonic(), dict[str, float]()
    while lesson.step < lesson.settings.steps:
        for name, value in lesson.advance().items():
            sums[name] = sums.get(name, 0.0) + value / REPORT_EVERY
        if lesson.step % REPORT_EVERY == 0:
            text = "  ".join(f"{name} {value:.4f}" for name, value in sums.items())
            report(f"step {lesson.step:5}  {time.monotonic() - started:5.0f} s  {text}")
            sums = {}
        out_of_time = time.monotonic() - started > stop_after_s
        if out_of_time or time.monotonic() - saved > CHECKPOINT_EVERY_S:
            _save(lesson, path)
            saved = time.monotonic()
        if out_of_time:
            return False
    _save(lesson, path)
    return True


def _save(lesson: Lesson, path: Path, again: bool = True) -> None:
    with hold_signals(again), new_file(path) as partial:
        torch.save(lesson.state(), partial)


def command(
    module: str, about: str | None, begin: Callable[[AuralSAM2, Settings, Report], Lesson], usual: Settings
) -> None:
    """Run a lesson's command: exit code 130 after Ctrl-C, and the state is saved."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and weights")
    parser.add_argument("--checkpoint", help="weights of `compact` to start from; default: those that are shipped")
    parser.add_argument("--clips", type=int, default=usual.clips, help="training clips; default: %(default)s")
    parser.add_argument("--steps", type=int, default=usual.steps, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(given.clips, given.steps, given.checkpoint)
    try:
        print(f"weights    {teach(begin, given.out, settings, lambda line: print(line, flush=True))}")
    except TrainingInterrupted as halt:
        print(f"interrupted; {halt.done} is saved in {halt.checkpoint}. The same command goes on.", file=sys.stderr)
        sys.exit(130)

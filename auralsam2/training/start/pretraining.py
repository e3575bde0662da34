"""What stands in for SAM2's and VGGish's pretraining where `compact` starts from nothing.

The paper's networks know what things look like and what sounds are before they learn which belong together. Here
VGGish first learns to name the timbres in a window, and the image encoder to name the thing at each pixel, sounding or
not; both from the training part of the procedural world. One linear head gives both their names, so that what looks
like a star and what sounds like one come to lie in one direction; then it is thrown away.
Source: our own; the paper starts from SAM2 (SA-1B) and VGGish (AudioSet).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2 import checkpoints
from auralsam2.computing import Precision, rounding
from auralsam2.data.world.shapes import SHAPES
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.training.start.lessons import NUM_NAMES, pictures, sounds

Lesson = Literal["sounds", "pictures"]
Report = Callable[[str, int, int, float], None]
"""What is learned, steps done, steps in all, loss."""
_BACKDROP_WEIGHT = 0.25


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. Rates fall polynomially, as in training."""

    image_steps: int
    sound_steps: int
    frames_per_step: int = 16
    clips_per_step: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 50

    @property
    def steps(self) -> int:
        return self.image_steps + self.sound_steps

    def rate(self, step: int, steps: int) -> float:
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps) * float((1 - step / steps) ** 0.9)


class Pretraining:
    """Sounds, then pictures, a step at a time, in place. The same seed and schedule, the same weights.

    Nothing random is carried from step to step: what a step shows is a function of the seed and its number.
    """

    def __init__(self, model: SoundingSAM2, seed: int, schedule: Schedule, precision: Precision = "float32") -> None:
        self.model, self.seed, self.schedule, self.precision = model, seed, schedule, precision
        self.device = model.sine.device
        self.log_mel = LogMel().to(self.device)
        torch.manual_seed(seed)
        self.head = nn.Linear(model.preset.width, NUM_NAMES).to(self.device)
        self.step = 0
        """Steps done, of both lessons together."""
        self._begin()

    @property
    def lesson(self) -> Lesson:
        return "sounds" if self.step < self.schedule.sound_steps else "pictures"

    @property
    def done(self) -> bool:
        return self.step >= self.schedule.steps

    @property
    def lesson_step(self) -> int:
        """Steps done of this lesson."""
        return self.step if self.lesson == "sounds" else self.step - self.schedule.sound_steps

    @property
    def lesson_steps(self) -> int:
        return self.schedule.sound_steps if self.lesson == "sounds" else self.schedule.image_steps

    def _begin(self) -> None:
        """Make the lesson's optimiser. On pictures the head gives the names that it learned on sounds, and stays."""
        if self.lesson == "sounds":
            self._learning = [*self.model.aural_fuser.vgg.parameters(), *self.head.parameters()]
        else:
            self.head.requires_grad_(False)
            self._learning = [*self.model.v_model.image_encoder.parameters()]
        self._optimiser = torch.optim.AdamW(self._learning, weight_decay=0.01)

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed pretraining needs."""
        return {
            "model": self.model.state_dict(),
            "pretraining": {
                "step": self.step,
                "head": self.head.state_dict(),
                "optimiser": self._optimiser.state_dict(),
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises CheckpointError when its shapes are another preset's."""
        checkpoints.load_strictly(self.model, state["model"], "the training checkpoint")
        own = state["pretraining"]
        self.head.load_state_dict(own["head"])
        self.step = int(own["step"])
        self._begin()
        self._optimiser.load_state_dict(own["optimiser"])

    @contextmanager
    def unfreeze(self) -> Iterator[None]:
        """Let both encoders learn for a while, also where the run that follows keeps them frozen."""
        parts = (self.model.v_model.image_encoder, self.model.aural_fuser.vgg)
        before = [(p, p.requires_grad) for part in parts for p in part.parameters()]
        for parameter, _ in before:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter, learns in before:
                parameter.requires_grad_(learns)
                parameter.grad = None

    def accumulate(self) -> Tensor:
        """Compute the gradients of one step, and return its loss, a scalar. Nothing else changes."""
        loss = self._sound_loss() if self.lesson == "sounds" else self._picture_loss()
        self._optimiser.zero_grad()
        loss.backward()
        return loss.detach()

    def update(self) -> None:
        """Take one step with the gradients at hand."""
        nn.utils.clip_grad_norm_(self._learning, 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.lesson_step, self.lesson_steps)
        self._optimiser.step()
        before = self.lesson
        self.step += 1
        if self.lesson != before:
            self._begin()

    def _sound_loss(self) -> Tensor:
        """How badly VGGish, and the head, know which timbres a window holds."""
        first = self.step * self.schedule.clips_per_step
        heard, labels = sounds(self.seed, range(first, first + self.schedule.clips_per_step))
        with torch.no_grad():
            mel = self.log_mel(heard.to(self.device))
        with rounding(self.device, self.precision):
            embedded = self.model.aural_fuser.vgg(mel)
        named: Tensor = self.head(embedded.float())[:, : len(SHAPES)]
        return F.binary_cross_entropy_with_logits(named, labels.to(self.device))

    def _picture_loss(self) -> Tensor:
        """How badly the image encoder knows the class of the thing at each of its stride-16 cells."""
        sam, size = self.model.v_model, self.model.image_size
        first = self.lesson_step * self.schedule.frames_per_step
        drawn, names = pictures(self.seed, range(first, first + self.schedule.frames_per_step), size)
        frames = image_encoder.normalise(drawn.to(self.device))
        with rounding(self.device, self.precision):
            position = image_encoder.position_embedding(sam.image_encoder.trunk, size)
            cells = image_encoder.pyramid(sam, frames, position)[2].permute(0, 2, 3, 1)
        weight = torch.ones(NUM_NAMES, device=self.device)
        weight[-1] = _BACKDROP_WEIGHT
        return F.cross_entropy(self.head(cells.float()).flatten(0, 2), names.to(self.device).flatten(), weight)

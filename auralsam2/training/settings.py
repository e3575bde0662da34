"""What a training run is asked for, checked when made, and kept in its checkpoints."""

from dataclasses import asdict, dataclass
from typing import Any

from auralsam2.errors import TrainingError
from auralsam2.presets import check_image_size, preset


@dataclass(frozen=True)
class TrainSettings:
    """One run. Two runs of equal settings give equal weights. Raises TrainingError or NetworkError."""

    preset: str = "compact"
    image_size: int | None = None
    """px; the preset's own when None."""
    num_frames: int = 5
    short_steps_share: float = 0.5
    """Share of the schedule, its beginning, in which a step takes the same number of frames from clips of one frame:
    five times as many scenes. Memory is learned in the rest."""
    steps: int = 2400
    """Optimiser steps of the whole schedule, whether or not one call reaches its end."""
    clips_per_step: int = 2
    learning_rate: float = 2e-4
    """At its highest, after the warm-up."""
    encoder_rate_share: float = 0.1
    """What image encoder and VGGish learn at, of the rate of the rest: they come pretrained."""
    warmup_steps: int = 100
    weight_decay: float = 0.01
    decay_power: float = 0.9
    """The rate falls as (1 - step / steps) ** decay_power."""
    max_gradient_norm: float = 1.0
    seed: int = 0
    multi_share: float = 0.6
    """Share of multi-source clips in the procedural world."""
    pretraining_image_steps: int = 800
    """Before the first step, where nothing is pretrained; see `pretraining`. 0: none."""
    pretraining_sound_steps: int = 150
    audio: bool = True
    """False: every clip is silent, to see what sound is worth."""
    audio_contrast: bool = True
    """False: without AudioCon, to see what it is worth."""
    workers: int = 2
    """Processes that share the clips of a step; part of the settings, because sums of floats depend on it."""
    threads: int = 1
    """Of each worker; part of the settings for the same reason. Before the first step one process has them all."""
    data: str | None = None
    """Folder in AVSBench's layout; None: the procedural world."""
    subset: str = "v1m"
    """v1s | v1m | v2: whose training split, where `data` is given."""

    def __post_init__(self) -> None:
        sizes = preset(self.preset)
        if self.image_size is None:
            object.__setattr__(self, "image_size", sizes.default_image_size)
        check_image_size(self.size)
        for name in ("steps", "clips_per_step", "workers", "threads"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} {getattr(self, name)}; must be at least 1.")
        if not 1 <= self.num_frames <= 16:
            raise TrainingError(f"num_frames {self.num_frames}; a clip holds 1 to 16 frames.")
        if self.clips_per_step % self.workers:
            raise TrainingError(
                f"clips_per_step {self.clips_per_step} cannot be shared evenly by {self.workers} workers; choose a"
                " multiple."
            )
        if not 0 < self.learning_rate < 1:
            raise TrainingError(f"learning_rate {self.learning_rate}; must be between 0 and 1.")

    @property
    def size(self) -> int:
        assert self.image_size is not None
        return self.image_size

    def is_short(self, step: int) -> bool:
        """Whether the clips of this step have one frame."""
        return step < self.steps * self.short_steps_share

    def clips_of(self, step: int) -> int:
        """How many clips make this step."""
        return self.clips_per_step * (self.num_frames if self.is_short(step) else 1)

    @property
    def end_to_end(self) -> bool:
        """Whether SAM2 and VGGish learn too: for `compact`, which has no pretrained ones; else only the fuser does."""
        return self.preset == "compact"

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * float((1 - step / self.steps) ** self.decay_power)

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Where the settings of a checkpoint differ from these, in words."""
        mine = asdict(self)
        return [f"{key} {other.get(key)!r}, now {value!r}" for key, value in mine.items() if other.get(key) != value]

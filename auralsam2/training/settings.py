"""What a training run is asked for, checked when made, and kept in its checkpoints.

The defaults here are those of the recipe `project`; `recipes` names the others.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from auralsam2.computing import Device, Precision
from auralsam2.data.resampling import Resampler
from auralsam2.errors import TrainingError
from auralsam2.presets import check_image_size, preset
from auralsam2_client.contract import AURALSAM2, METHODS, PROCEDURAL_WORLD

Recipe = Literal["released", "paper", "project"]
Conditioning = Literal["first", "middle"]
BatchNorm = Literal["running", "clip"]
IouError = Literal["squared", "absolute"]
FrameLosses = Literal["mean", "sum"]
ContrastForm = Literal["frame", "clip"]
ContrastSampling = Literal["balanced", "released"]
FuserStart = Literal["project", "released"]

_CHOICES: dict[str, Any] = {
    "recipe": Recipe,
    "conditioning": Conditioning,
    "batch_norm": BatchNorm,
    "iou_error": IouError,
    "frame_losses": FrameLosses,
    "audio_contrast_form": ContrastForm,
    "audio_contrast_sampling": ContrastSampling,
    "fuser_start": FuserStart,
    "resampler": Resampler,
    "device": Device,
    "precision": Precision,
}
FULL_STEPS = 2400
FULL_IMAGE_STEPS, FULL_SOUND_STEPS = 800, 150
"""Of the pretraining of a schedule of FULL_STEPS or more; of a shorter one in proportion."""


def share_pretraining(steps: int) -> dict[str, int]:
    """Share so many steps of pretraining between pictures and sounds, 800 : 150, under the names of the settings.

    Of two or more each gets at least one.
    """
    sound_steps = max(int(steps > 1), round(steps * FULL_SOUND_STEPS / (FULL_IMAGE_STEPS + FULL_SOUND_STEPS)))
    return {"pretraining_image_steps": steps - sound_steps, "pretraining_sound_steps": sound_steps}


@dataclass(frozen=True)
class TrainSettings:
    """One run. Two runs of equal settings give equal weights. Raises TrainingError or NetworkError."""

    recipe: Recipe = "project"
    """Whose values the run started from, for its log and its weights; see `recipes`."""
    method: str = AURALSAM2
    """auralsam2 | gavs | sama_avs."""
    preset: str = "compact"
    image_size: int | None = None
    """px; the preset's own when None."""
    num_frames: int = 5
    short_steps_share: float = 0.5
    """Share of the schedule, its beginning, in which a step takes the same number of frames from clips of one frame:
    five times as many scenes. Memory is learned in the rest."""
    steps: int = FULL_STEPS
    """Optimiser steps of the whole schedule, whether or not one call reaches its end."""
    clips_per_step: int = 2
    learning_rate: float = 2e-4
    """At its highest, after the warm-up."""
    train_sam2: bool | None = None
    """Whether SAM2 learns; None: where nothing is pretrained, see `from_scratch`."""
    train_vggish: bool | None = None
    """Whether VGGish learns; None: where nothing is pretrained."""
    encoder_rate_share: float = 0.1
    """What image encoder and VGGish learn at where they learn, of the rate of the rest: they come pretrained."""
    warmup_steps: int = 100
    weight_decay: float = 0.01
    decay_norms: bool = True
    """False: weights and biases of norms do not decay. Biases of other layers do."""
    decay_power: float = 0.9
    """The rate falls as (1 - step / steps) ** decay_power."""
    max_gradient_norm: float | None = 1.0
    """None: gradients are not clipped."""
    fuser_start: FuserStart = "project"
    """How a fuser without weights begins; see `start.initial`."""
    conditioning: Conditioning = "first"
    """Which frame is decoded first: frame 0, or frame T // 2."""
    dropout: float = 0.0
    """Of the fuser's blocks: on attention, behind each attention and twice in each MLP."""
    batch_norm: BatchNorm = "running"
    """What the fuser's batch norms normalise by: running statistics (see `run.running_statistics`), or those of the
    clip at hand, the running ones following as torch does it."""
    iou_error: IouError = "squared"
    frame_losses: FrameLosses = "mean"
    """How a clip's frames make one loss. With "mean" AudioCon, whose weight was made for the sum, is divided by T."""
    audio_contrast_form: ContrastForm = "frame"
    """What AudioCon compares: a frame with itself through heads of its own (`losses.audio_contrast`), or a whole clip
    through the fuser's (`losses.clip_contrast`)."""
    audio_contrast_sampling: ContrastSampling = "balanced"
    """How pixels are drawn; see `losses.clip_contrast`."""
    audio_contrast_samples: int = 512
    """Of a frame and scale. "balanced": in all; "released": the limit that its code reads (`losses.clip_contrast`)."""
    jitter: float = 0.2
    """Brightness, contrast and saturation are each scaled by 1 - jitter to 1 + jitter."""
    greyscale_share: float = 0.1
    max_rotation_degrees: float = 0.0
    max_shear_degrees: float = 0.0
    seed: int = 0
    multi_share: float = 0.6
    """Share of multi-source clips in the procedural world."""
    pretraining_image_steps: int | None = None
    """Before the first step, where nothing is pretrained; see `start.pretraining`. 0: none. None: a third of `steps`,
    800 at most."""
    pretraining_sound_steps: int | None = None
    """The same for sounds. None: a sixteenth of `steps`, 150 at most."""
    audio: bool = True
    """False: every clip is silent, to see what sound is worth."""
    audio_contrast: bool = True
    """False: without AudioCon, to see what it is worth."""
    workers: int = 2
    """Processes that share the clips of a step; part of the settings, because sums of floats depend on it."""
    threads: int = 1
    """Of each worker; part of the settings for the same reason. Before the first step one process has them all."""
    device: Device = "cpu"
    """Where the network computes; part of the settings for the same reason."""
    precision: Precision | None = None
    """Of the network's forward pass; losses and weights are float32. "bfloat16": under autocast, as the released
    scripts train. None: bfloat16 on cuda, float32 on cpu."""
    data: str | None = None
    """Folder in AVSBench's layout; None: the procedural world."""
    subset: str = "v1m"
    """v1s | v1m | v2: whose training split, where `data` is given."""
    resampler: Resampler = "soxr"
    """Of sound in `data` that is not at 16 kHz."""

    def __post_init__(self) -> None:
        sizes = preset(self.preset)
        if self.image_size is None:
            object.__setattr__(self, "image_size", sizes.default_image_size)
        if self.precision is None:
            object.__setattr__(self, "precision", "bfloat16" if self.device == "cuda" else "float32")
        check_image_size(self.size)
        for name in ("steps", "clips_per_step", "workers", "threads"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} {getattr(self, name)}; must be at least 1.")
        if self.method not in METHODS:
            raise TrainingError(f"method {self.method!r} is unknown; choose one of {', '.join(METHODS)}.")
        self._set_pretraining()
        if not 1 <= self.num_frames <= 16:
            raise TrainingError(f"num_frames {self.num_frames}; a clip holds 1 to 16 frames.")
        if self.clips_per_step % self.workers:
            raise TrainingError(
                f"clips_per_step {self.clips_per_step} cannot be shared evenly by {self.workers} workers; choose a"
                " multiple."
            )
        if self.device == "cuda" and self.workers > 1:
            raise TrainingError(f"workers {self.workers} on device cuda; one process has the card. Take workers 1.")
        if not 0 < self.learning_rate < 1:
            raise TrainingError(f"learning_rate {self.learning_rate}; must be between 0 and 1.")
        self._check_values()

    def _set_pretraining(self) -> None:
        share = min(1.0, self.steps / FULL_STEPS)
        for name, full in (
            ("pretraining_image_steps", FULL_IMAGE_STEPS),
            ("pretraining_sound_steps", FULL_SOUND_STEPS),
        ):
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, max(1, round(full * share)))
            elif value < 0:
                raise TrainingError(f"{name} {value}; must be at least 0.")

    def _check_values(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise TrainingError(f"{name} {getattr(self, name)!r} is unknown; choose one of {known}.")
        for name in ("dropout", "jitter", "greyscale_share", "short_steps_share"):
            if not 0 <= getattr(self, name) <= 1 or (name == "dropout" and self.dropout == 1):
                limit = "below 1" if name == "dropout" else "at most 1"
                raise TrainingError(f"{name} {getattr(self, name)}; must be at least 0 and {limit}.")
        if self.audio_contrast_samples < 4:
            raise TrainingError(f"audio_contrast_samples {self.audio_contrast_samples}; must be at least 4.")
        if self.audio_contrast_form == "frame" and self.audio_contrast_sampling != "balanced":
            raise TrainingError("audio_contrast_sampling 'released' goes with audio_contrast_form 'clip' only.")
        if self.batch_norm == "clip" and (self.num_frames < 2 or self.short_steps_share > 0):
            raise TrainingError(
                f"batch_norm 'clip' (recipe {self.recipe}) with clips of one frame (num_frames {self.num_frames},"
                f" short_steps_share {self.short_steps_share}): one sound has no statistics. Take 2 frames or more, or"
                " --recipe project."
            )

    @property
    def size(self) -> int:
        assert self.image_size is not None
        return self.image_size

    @property
    def trained_on(self) -> str:
        """What the weights will know, for their file: the procedural world, or the data by name."""
        return PROCEDURAL_WORLD if self.data is None else f"{self.subset} in {Path(self.data).name}"

    @property
    def pretraining_steps(self) -> tuple[int, int]:
        """Steps on pictures and steps on sounds before the first, where nothing is pretrained."""
        assert self.pretraining_image_steps is not None
        assert self.pretraining_sound_steps is not None
        return self.pretraining_image_steps, self.pretraining_sound_steps

    @property
    def forward_precision(self) -> Precision:
        assert self.precision is not None
        return self.precision

    def is_short(self, step: int) -> bool:
        """Tell whether the clips of this step have one frame."""
        return step < self.steps * self.short_steps_share

    def clips_of(self, step: int) -> int:
        """Tell how many clips make this step."""
        return self.clips_per_step * (self.num_frames if self.is_short(step) else 1)

    @property
    def from_scratch(self) -> bool:
        """Whether nothing pretrained exists: true of AuralSAM2's `compact`, which starts from initial weights.

        The other methods put their adapters on a SAM2 and a VGGish that were trained before: on `compact`'s own.
        """
        return self.preset == "compact" and self.method == AURALSAM2

    @property
    def contrasts(self) -> bool:
        """Whether AudioCon is learned, which is AuralSAM2's own."""
        return self.audio_contrast and self.method == AURALSAM2

    @property
    def sam2_learns(self) -> bool:
        return self.from_scratch if self.train_sam2 is None else self.train_sam2

    @property
    def vggish_learns(self) -> bool:
        return self.from_scratch if self.train_vggish is None else self.train_vggish

    def conditioning_frame(self, num_frames: int) -> int:
        """Choose, of a clip of `num_frames`, the frame that is decoded first."""
        return num_frames // 2 if self.conditioning == "middle" else 0

    def rate(self, step: int) -> float:
        """Compute the learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * float((1 - step / self.steps) ** self.decay_power)

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Say where the settings of a checkpoint differ from these, in words.

        What a checkpoint does not name was no setting when it was written: the run had what is the default now.
        """
        theirs = asdict(type(self)()) | other
        return [f"{key} {theirs[key]!r}, now {value!r}" for key, value in asdict(self).items() if theirs[key] != value]

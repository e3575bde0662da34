"""Teach class tokens to name what is outlined: `python -m auralsam2.training.after.class_tuning --out runs/classes`.

The network is frozen and its masks are computed once, as Stepping-Stone does it: first what sounds, then what it is.
The head learns the class of each pixel that its mask and the truth share, and which classes sound in a frame; in some
frames it has no sound and names by sight.
Killed at any moment, the same command goes on; what it writes is the head alone.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.classifier import perceive
from auralsam2.classes.head_file import header_of, tensors_of
from auralsam2.data import world
from auralsam2.data.labelled import BACKGROUND
from auralsam2.data.world.labels import label_map
from auralsam2.data.world.shapes import SHAPES
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.shipped import sha256_of
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.training.after.lesson import Lesson, Report, Settings, command
from auralsam2_client.media.sound_windows import clip_windows

BATCH = 24
SCORE_WEIGHT = 0.5
DEAF_SHARE = 0.3
"""Share of the frames in which the head has no sound, so that it learns to name by sight too."""
OF_SOUND = range(3, 7)
"""Which arguments of `ClassHead.forward` follow from the sound."""
LOGIT_STRIDE = 4


class Masked(NamedTuple):
    """One frame with its predicted mask, as a class head reads it (float16), and what is true of it."""

    inputs: tuple[Tensor, ...]
    """Arguments of `ClassHead.forward`, without their leading axis."""
    labels: Tensor
    """[S/4, S/4] uint8: 0 where nothing sounds, else 1 to K."""
    sounding: Tensor
    """[K] float32: 1 for each class that sounds and is seen."""


def read_clip(model: AuralSAM2, log_mel: LogMel, index: int, seed: int) -> list[Masked]:
    """Compute the frames of training clip `index`: two of three clips are of split "multi"."""
    scene = world.draw_scene("single" if index % 3 == 2 else "multi", "train", seed, index)
    painter = world.Painter(scene, model.image_size)
    pictures, owners = zip(*(painter.draw(second + 0.5) for second in range(scene.num_frames)), strict=True)
    frames = normalise(torch.from_numpy(np.stack(pictures)))
    found = perceive(model, frames, log_mel(torch.from_numpy(clip_windows(world.play(scene), scene.num_frames))))
    inputs = [each.half() for each in found.head_inputs(found.output.select())]
    clip = []
    for second, own in enumerate(owners):
        labels = torch.from_numpy(label_map(scene, own, second))
        sounding = torch.tensor([float((labels == number + 1).any()) for number in range(len(SHAPES))])
        middle = slice(LOGIT_STRIDE // 2, None, LOGIT_STRIDE)
        clip.append(Masked(tuple(each[second] for each in inputs), labels[middle, middle].clone(), sounding))
    return clip


def read_clips(model: AuralSAM2, settings: Settings, report: Report) -> list[Masked]:
    """Compute training clips 0 to `clips` - 1, about 1.7 MB each."""
    log_mel, started, found = LogMel(), time.monotonic(), list[Masked]()
    with torch.no_grad():
        for index in range(settings.clips):
            found += read_clip(model, log_mel, index, settings.seed)
            if index % 50 == 49:
                report(f"masks      {index + 1} clips, {time.monotonic() - started:.0f} s")
    return found


class Tuner(Lesson):
    """The class head learns; the network stays as it is."""

    NAME, STREAM = "classes", 14

    def __init__(self, model: AuralSAM2, frames: list[Masked], settings: Settings) -> None:
        super().__init__(model.requires_grad_(False), settings)
        self.frames = frames
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.head = ClassHead(model.preset, len(SHAPES))
        self.parameters = list(self.head.parameters())
        groups = [{"params": self.parameters, "share": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.05)

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of some frames: the class of each pixel of a mask, and which classes sound."""
        batch = [self.frames[int(number)] for number in rng.integers(len(self.frames), size=BATCH)]
        inputs = [torch.stack(each).float() for each in zip(*(frame.inputs for frame in batch), strict=True)]
        hears = torch.from_numpy(rng.uniform(size=BATCH) >= DEAF_SHARE).float()
        masks = inputs[-1]
        for place in OF_SOUND:
            inputs[place] = inputs[place] * hears.view(BATCH, *[1] * (inputs[place].ndim - 1))
        logits, scores = self.head.logits(*inputs)
        labels = torch.stack([frame.labels for frame in batch]).long()
        learned = (masks > 0) & (labels != BACKGROUND)
        # Where a mask goes astray no class is right; the metric counts it wrong whatever it is called.
        wanted = torch.where(learned, labels - 1, -1)
        named = F.cross_entropy(logits, wanted, ignore_index=-1, reduction="sum") / learned.sum().clamp(min=1)
        sounding = torch.stack([frame.sounding for frame in batch])
        missed = F.binary_cross_entropy_with_logits(scores, sounding, reduction="none").mean(1)
        # What sounds, only sound tells.
        return {"class": named, "score": SCORE_WEIGHT * (missed * hears).sum() / hears.sum().clamp(min=1)}

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed run needs."""
        return {"step": self.step, "head": self.head.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def weights(self) -> Mapping[str, Tensor]:
        """Collect the head's tensors alone."""
        return tensors_of(self.head)

    def about(self) -> dict[str, str]:
        """Tell what the classes are called, and on whose masks they were learned."""
        known = {checkpoints.TRAINED_ON, "preset", "image_size", f"{self.NAME}_steps"}
        said = {key: value for key, value in super().about().items() if key in known}
        return said | header_of(SHAPES, sha256_of(checkpoints.fetch(self.began())))


def begin(model: AuralSAM2, settings: Settings, report: Report) -> Tuner:
    """Make the lesson: compute the masks of its clips, and what the head reads beside them."""
    return Tuner(model, read_clips(model, settings, report), settings)


if __name__ == "__main__":
    command("auralsam2.training.after.class_tuning", __doc__, begin, Settings(clips=600, steps=2400))

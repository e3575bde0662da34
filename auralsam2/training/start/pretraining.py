"""What stands in for SAM2's and VGGish's pretraining where `compact` starts from nothing.

The paper's networks know what things look like and what sounds are before they learn which belong together. Here the
image encoder first learns to name the thing at each pixel, sounding or not, and VGGish to name the timbres in a window;
both from the training part of the procedural world. One linear head gives both their names, so that what looks like a
star and what sounds like one come to lie in one direction; then it is thrown away.
Source: our own; the paper starts from SAM2 (SA-1B) and VGGish (AudioSet).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from auralsam2.data import world
from auralsam2.data.world.shapes import SHAPES
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.presets import STRIDE
from auralsam2.training.examples.augmentation import Augmentation, augment
from auralsam2.training.examples.clips import Example
from auralsam2_client.media.sound_windows import clip_windows

NUM_NAMES = len(SHAPES) + 1
"""The classes, and last the backdrop."""
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


Report = Callable[[str, int, int, float], None]
"""What is learned, steps done, steps in all, loss."""


def names_of(scene: world.Scene, owners: NDArray[np.int8]) -> NDArray[np.int64]:
    """Find the class of the thing at each pixel; the last class is the backdrop."""
    classes = [SHAPES.index(thing.shape) for thing in scene.things]
    return np.array([*classes, NUM_NAMES - 1], np.int64)[owners]


def _split(number: int) -> world.Split:
    return "multi" if number % 2 else "single"


def _pictures(seed: int, numbers: range, size: int) -> tuple[Tensor, Tensor]:
    """Augmented frames [B, 3, S, S], each of another scene, and names [B, S/16, S/16]."""
    frames, names = [], []
    for number in numbers:
        scene = world.draw_scene(_split(number), "train", seed, number, 1)
        rng = np.random.default_rng([seed, 13, number])
        picture, owners = world.Painter(scene, size).draw(float(rng.uniform(0, 5)))
        # `augment` flips masks with frames: let it carry where each pixel came from.
        columns = np.arange(size) < size // 2
        example = augment(
            Example(picture[None], np.zeros((1, 0, 2), np.float32), columns[None, None]), rng, Augmentation()
        )
        flipped = not example.masks[0, 0, 0]
        label = names_of(scene, owners)
        label = label[:, ::-1] if flipped else label
        frames.append(example.frames[0])
        names.append(label[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
    return image_encoder.normalise(torch.from_numpy(np.stack(frames))), torch.from_numpy(np.stack(names))


def _sounds(seed: int, numbers: range) -> tuple[NDArray[np.float32], Tensor]:
    """Windows [5 B, 15600, 2] and which timbres each holds, [5 B, classes]."""
    heard, labels = [], []
    for number in numbers:
        scene = world.draw_scene(_split(number), "train", seed, number)
        heard.append(clip_windows(world.play(scene), scene.num_frames))
        label = np.zeros((scene.num_frames, len(SHAPES)), np.float32)
        for thing, on in zip(scene.things, scene.sounding.T, strict=True):
            label[:, SHAPES.index(thing.shape)] = on
        labels.append(label)
    return np.concatenate(heard), torch.from_numpy(np.concatenate(labels))


def _learn(
    what: str,
    parameters: list[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    schedule: Schedule,
    steps: int,
    report: Report,
) -> None:
    optimiser = torch.optim.AdamW(parameters, weight_decay=0.01)
    for step in range(steps):
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step, steps)
        optimiser.step()
        report(what, step + 1, steps, loss.item())


def learn_pictures(model: AuralSAM2, head: nn.Linear, seed: int, schedule: Schedule, report: Report) -> None:
    """Teach the image encoder the class of the thing at each of its stride-16 cells; `head` names them, and stays."""
    sam, size = model.v_model, model.image_size
    weight = torch.ones(NUM_NAMES)
    weight[-1] = _BACKDROP_WEIGHT

    def loss_of(step: int) -> Tensor:
        first = step * schedule.frames_per_step
        frames, names = _pictures(seed, range(first, first + schedule.frames_per_step), size)
        position = image_encoder.position_embedding(sam.image_encoder.trunk, size)
        cells = image_encoder.pyramid(sam, frames, position)[2].permute(0, 2, 3, 1)
        return F.cross_entropy(head(cells).flatten(0, 2), names.flatten(), weight)

    _learn("pictures", [*sam.image_encoder.parameters()], loss_of, schedule, schedule.image_steps, report)


def learn_sounds(model: AuralSAM2, head: nn.Linear, seed: int, schedule: Schedule, report: Report) -> None:
    """Teach VGGish, and `head`, which timbres a window holds."""
    vggish, log_mel = model.aural_fuser.vgg, LogMel()

    def loss_of(step: int) -> Tensor:
        first = step * schedule.clips_per_step
        heard, labels = _sounds(seed, range(first, first + schedule.clips_per_step))
        with torch.no_grad():
            mel = log_mel(torch.from_numpy(heard))
        return F.binary_cross_entropy_with_logits(head(vggish(mel))[:, : len(SHAPES)], labels)

    _learn("sounds", [*vggish.parameters(), *head.parameters()], loss_of, schedule, schedule.sound_steps, report)


def pretrain(model: AuralSAM2, seed: int, schedule: Schedule, report: Report) -> None:
    """Train both, in place. The same seed and schedule, the same weights."""
    torch.manual_seed(seed)
    head = nn.Linear(model.preset.width, NUM_NAMES)
    learn_sounds(model, head, seed, schedule, report)
    learn_pictures(model, head.requires_grad_(False), seed, schedule, report)

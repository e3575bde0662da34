"""What pretraining is shown: pictures whose every cell has a name, and windows of sound with the timbres in each."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.data import world
from auralsam2.data.world.shapes import SHAPES
from auralsam2.presets import STRIDE
from auralsam2.training.examples.augmentation import Augmentation, augment
from auralsam2.training.examples.clips import Example
from auralsam2_client.media.sound_windows import clip_windows

NUM_NAMES = len(SHAPES) + 1
"""The classes, and last the backdrop."""


def names_of(scene: world.Scene, owners: NDArray[np.int8]) -> NDArray[np.int64]:
    """Find the class of the thing at each pixel; the last class is the backdrop."""
    classes = [SHAPES.index(thing.shape) for thing in scene.things]
    return np.array([*classes, NUM_NAMES - 1], np.int64)[owners]


def _split(number: int) -> world.Split:
    return "multi" if number % 2 else "single"


def pictures(seed: int, numbers: range, size: int) -> tuple[Tensor, Tensor]:
    """Draw augmented frames [B, S, S, 3] uint8, each of another scene, and names [B, S/16, S/16]."""
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
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(names))


def sounds(seed: int, numbers: range) -> tuple[Tensor, Tensor]:
    """Play windows [5 B, 15600, 2] float32, and tell which timbres each holds, [5 B, classes] float32."""
    heard, labels = [], []
    for number in numbers:
        scene = world.draw_scene(_split(number), "train", seed, number)
        heard.append(clip_windows(world.play(scene), scene.num_frames))
        label = np.zeros((scene.num_frames, len(SHAPES)), np.float32)
        for thing, on in zip(scene.things, scene.sounding.T, strict=True):
            label[:, SHAPES.index(thing.shape)] = on
        labels.append(label)
    return torch.from_numpy(np.concatenate(heard)), torch.from_numpy(np.concatenate(labels))

"""What sounds at each pixel of the procedural world: its six shapes are the classes, in the order of SHAPES."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.labelled import BACKGROUND, LabelledClip, Reader
from auralsam2.data.samples import Sample
from auralsam2.data.world import scenes
from auralsam2.data.world.held_out import NUM_CLIPS, SEED
from auralsam2.data.world.shapes import SHAPES
from auralsam2_client.media.sound_windows import clip_windows


def label_map(scene: scenes.Scene, owners: NDArray[np.int8], second: int) -> NDArray[np.uint8]:
    """Find the label of what sounds at each pixel.

    Args:
        owners: [S, S], the thing seen at each pixel, as `Painter.draw` gives it.
        second: of the scene.
    Returns: [S, S] uint8: 0 where nothing sounds, else 1 to 6.
    """
    sounding = scene.sounding[second]
    labels = [
        SHAPES.index(thing.shape) + 1 if on else BACKGROUND for thing, on in zip(scene.things, sounding, strict=True)
    ]
    # NOBODY is the last entry, counted from the end.
    return np.array([*labels, BACKGROUND], np.uint8)[owners]


def open_labelled(split: scenes.Split, count: int = NUM_CLIPS, seed: int = SEED, size: int = 256) -> list[Reader]:
    """List the first `count` held-out clips of a split, those of `held_out.read_split`, with their labels."""
    return [partial(_draw, split, seed, index, size) for index in range(count)]


def _draw(split: scenes.Split, seed: int, index: int, size: int) -> LabelledClip:
    scene = scenes.draw_scene(split, "held_out", seed, index)
    painter = scenes.Painter(scene, size)
    frames, owners = zip(*(painter.draw(second + 0.5) for second in range(scene.num_frames)), strict=True)
    labels = np.stack([label_map(scene, own, second) for second, own in enumerate(owners)])
    windows = clip_windows(scenes.play(scene), scene.num_frames)
    sample = Sample(scenes.clip_name(split, index), np.stack(frames), windows, labels != BACKGROUND)
    return LabelledClip(sample, labels)

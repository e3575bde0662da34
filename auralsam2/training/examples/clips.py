"""What a training step reads: clips by number, each a pure function of seed and number."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auralsam2.data import world
from auralsam2_client.media.sound_windows import clip_windows


@dataclass(frozen=True)
class Example:
    """One clip to learn from."""

    frames: NDArray[np.uint8]
    """[T, S, S, 3] RGB."""
    windows: NDArray[np.float32]
    """[T, 15600, 2]: what each frame hears."""
    masks: NDArray[np.bool_]
    """[T, S, S]."""
    labelled: NDArray[np.bool_] | None = None
    """[T]: the frames whose mask is known; None: all. What is not known says nothing: losses leave it out."""


Source = Callable[[int, int], Example]
"""Clip number and number of frames -> example. The same numbers, the same example; there is no end of numbers."""


def of_clip(clip: world.Clip) -> Example:
    """Make an example of a clip of the procedural world."""
    return Example(clip.frames, clip_windows(clip.sound, len(clip.frames)), clip.masks)


def procedural(seed: int, size: int, multi_share: float = 0.6) -> Source:
    """Draw from the training part of the splits "single" and "multi", mixed."""

    def source(number: int, num_frames: int) -> Example:
        multi = np.random.default_rng([seed, 7, number]).uniform() < multi_share
        return of_clip(world.clip("multi" if multi else "single", "train", seed, number, size, num_frames))

    return source


def without_sound(source: Source) -> Source:
    """Silence the clips: what a network can learn that cannot hear."""

    def silent(number: int, num_frames: int) -> Example:
        example = source(number, num_frames)
        return replace(example, windows=np.zeros_like(example.windows))

    return silent

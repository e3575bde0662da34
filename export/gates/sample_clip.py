"""A clip of the procedural world in which something sounds in every second.

The gate compares graph and network on it, and the server answers it once before it is ready. Ones and zeros would not
do: they hide errors of order, of padding and of position, and a network that hears must see an object here.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from auralsam2.data import world
from auralsam2_client.media.sound_windows import clip_windows


def _scene(num_frames: int, seed: int) -> world.Scene:
    """Sources that take turns and overlap: thing t % n in second t, and with it every second time the next one."""
    scene = world.draw_scene("multi", "held_out", seed, 0, num_frames)
    sounding = np.zeros_like(scene.sounding)
    for second, row in enumerate(sounding):
        row[second % len(row)] = True
        row[(second + 1) % len(row)] = second % 2 == 1
    return replace(scene, sounding=sounding)


def sample_frames(num_frames: int, image_size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw the frames of a clip, [T, S, S, 3] uint8 RGB."""
    scene = _scene(num_frames, seed)
    painter = world.Painter(scene, image_size)
    return np.stack([painter.draw(second + 0.5)[0] for second in range(num_frames)])


def sample_audio(num_frames: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Draw [T, 15600, 2] float32 in [-1, 1]: what each frame of the same seed's clip hears."""
    return clip_windows(world.play(_scene(num_frames, seed)), num_frames)


def sample_thing(num_frames: int, image_size: int, frame: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Mark the pixels [S, S] of the thing of which most is seen on a frame of that clip: what a person would mark."""
    _, owners = world.Painter(_scene(num_frames, seed), image_size).draw(frame + 0.5)
    seen = np.bincount(owners[owners >= 0])
    return np.asarray(owners == int(seen.argmax()))

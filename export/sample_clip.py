"""A small clip made of arithmetic: discs that move over a textured ground, and tones that start and stop.

The gate compares graph and network on it, and the server answers it once before it is ready. Ones and zeros would not
do: they hide errors of order, of padding and of position.
"""

import numpy as np
import numpy.typing as npt

from auralsam2.log_mel import SAMPLE_RATE, WINDOW_SAMPLES

PEAK = 0.5


def sample_frames(num_frames: int, image_size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """[T, S, S, 3] uint8 RGB."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:image_size, 0:image_size] / image_size
    waves = draw.uniform(4, 30, (3, 2))
    ground = 110 + 45 * np.stack([np.sin(a * x + b * y) for a, b in waves], axis=-1)
    ground += draw.normal(0, 6, ground.shape)
    frames = np.empty((num_frames, image_size, image_size, 3), np.uint8)
    starts, speeds = draw.uniform(0.25, 0.75, (3, 2)), draw.uniform(-0.06, 0.06, (3, 2))
    radii, colours = draw.uniform(0.08, 0.2, 3), draw.uniform(0, 255, (3, 3))
    for t in range(num_frames):
        picture = ground.copy()
        for (cx, cy), radius, colour in zip(starts + t * speeds, radii, colours, strict=True):
            picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = colour
        frames[t] = picture.clip(0, 255).astype(np.uint8)
    return frames


def sample_audio(num_frames: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """[T, 15600, 2] float32 in [-1, 1]: a few partials a window, panned, with a little noise."""
    draw = np.random.default_rng(seed + 1)
    time_s = np.arange(WINDOW_SAMPLES) / SAMPLE_RATE
    audio = draw.normal(0, 0.01, (num_frames, WINDOW_SAMPLES, 2))
    for window in audio:
        for frequency in draw.uniform(150, 5000, 4):
            pan = draw.uniform(0, 1)
            tone = np.sin(2 * np.pi * frequency * time_s)[:, None] * np.array([pan, 1 - pan])
            window += tone * draw.uniform(0.05, 0.3) * (time_s > draw.uniform(0, 0.5))[:, None]
    audio *= PEAK / np.abs(audio).max()
    return audio.astype(np.float32)

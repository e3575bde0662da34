"""Media in: a video file with its sound track, or a folder of frames with a WAV -> sampled frames and 16 kHz stereo.

Time 0 is the first frame of the video; the sound is padded or trimmed to it. Frame i is the one on display at
start_s + i / fps. Frames are decoded one after the other; only the sampled ones become RGB and stay in memory.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.media.reading import Progress, open_media


@dataclass(frozen=True, eq=False)
class Media:
    """A clip as read: sampled frames, and the sound from time 0 to at least one second past the last frame."""

    frames: NDArray[np.uint8]  # [N, H, W, 3] RGB
    times_s: NDArray[np.float64]  # [N]
    fps: float
    sound: NDArray[np.float32] | None  # [S, 2] at 16 kHz from the video's time 0; None for silence
    source: str
    duration_s: float  # of the video: measured if it was read to its end, else as declared
    files: tuple[str, ...] = ()
    """Names of the files that the frames of a folder come from, one a frame; empty for a video."""


def read_media(
    path: str | Path,
    *,
    fps: float = 1.0,
    start_s: float = 0.0,
    max_frames: int | None = None,
    silent: bool = False,
    sound_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Media:
    """Read a video file, or a folder of images (png, jpg, bmp, webp, tif by name, in natural order) with one WAV in it.

    Args:
        path: a local file in any usual container, or a folder. The images of a folder are 1 / fps seconds apart.
        fps: frames a second to sample, 1/3600 to 120. A frame is repeated where the video has fewer.
        start_s: time of the first sampled frame in seconds from the first frame of the video, 0 to 3600.
        max_frames: sample at most this many, 1 to 600; the rest of the file is not read. None: all, at most 600.
        silent: read no sound; `Media.sound` is then None.
        sound_path: a sound file (WAV, FLAC, OGG) that takes the place of the video's track, or is that of the folder.
        progress: called with (frames sampled, frames expected or None).
    Returns: `Media`.
    Raises: BadInput, and nothing else, for whatever is wrong with an argument or a file.
    """
    reading = open_media(
        path,
        fps=fps,
        start_s=start_s,
        max_frames=max_frames,
        silent=silent,
        sound_path=sound_path,
        progress=progress,
    )
    frames, plan = _stack(list(reading.frames)), reading.plan
    times_s = plan.start_s + np.arange(len(frames)) / plan.fps
    sound = reading.read_sound(reading.sound_until_s(len(frames)))
    return Media(frames, times_s, plan.fps, sound, reading.source, reading.found.duration_s, reading.files)


def _stack(sampled: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """As np.stack, but gives each frame back as soon as it is copied, so that the clip lies in memory once."""
    frames = np.empty((len(sampled), *sampled[0].shape), np.uint8)
    for index in reversed(range(len(sampled))):
        frames[index] = sampled.pop()
    return frames

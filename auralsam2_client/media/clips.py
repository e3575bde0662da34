"""A whole video as consecutive clips of the model's length, each with the sound that its frames hear."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.media.reader import Media
from auralsam2_client.media.sound_windows import Windows, cut_windows


@dataclass(frozen=True, eq=False)
class MediaClip:
    """At most T consecutive frames of a video. The last clip may be shorter."""

    first: int  # of its frames, counted over the whole video
    frames: NDArray[np.uint8]  # [N, H, W, 3] RGB
    times_s: NDArray[np.float64]  # [N]
    heard: Windows


def cut_clips(media: Media, clip_length: int) -> Iterator[MediaClip]:
    """Cut into clips of `clip_length` frames. Raises: as `cut_windows`, at the clip that it is about."""
    for first in range(0, len(media.frames), clip_length):
        frames = media.frames[first : first + clip_length]
        times_s = media.times_s[first : first + clip_length]
        yield MediaClip(first, frames, times_s, cut_windows(media.sound, len(frames), media.fps, float(times_s[0])))

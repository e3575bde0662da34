"""A whole video, clip by clip: cut into the model's T frames, sent, and put together again."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.client import Client
from service.masks import FrameResult
from service.media import Media
from service.sound import windows

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SegmentedMedia:
    """The answer for every sampled frame of a video, in order of time."""

    frames: list[FrameResult]
    num_repeated_windows: int
    """Frames that heard sound of an earlier moment, because the sound ends before the video."""

    def masks(self) -> NDArray[np.bool_]:
        """[N, H, W] bool, at the size of the input."""
        return np.stack([frame.mask for frame in self.frames])


def segment_media(
    client: Client, media: Media, *, timeout_s: float | None = None, progress: Progress | None = None
) -> SegmentedMedia:
    """Segment the sounding objects of a whole video.

    The frames are cut into consecutive clips of the model's T frames; a last, shorter clip is filled up with its last
    frame for the model only. Clips know nothing of each other: the model's memory reaches over one clip.

    Args:
        timeout_s: seconds for each clip; None is the client's own.
        progress: called with (frames done, frames in all) after each clip.
    Raises: as `Client.segment` and `windows`.
    """
    clip_length = client.num_frames
    results: list[FrameResult] = []
    num_repeated = 0
    total = len(media.frames)
    for first in range(0, total, clip_length):
        frames = media.frames[first : first + clip_length]
        heard = windows(media.sound, len(frames), media.fps, float(media.times_s[first]))
        num_repeated += heard.num_repeated
        answer = client.segment(frames, heard.samples, timeout_s=timeout_s)
        for offset, mask in enumerate(answer.masks()):
            results.append(
                FrameResult(
                    time_s=float(media.times_s[first + offset]),
                    mask=mask,
                    iou=answer.iou[offset],
                    best_candidate=int(answer.iou[offset].argmax()),
                    object_score=float(answer.object_score[offset]),
                )
            )
        if progress is not None:
            progress(len(results), total)
    return SegmentedMedia(results, num_repeated)

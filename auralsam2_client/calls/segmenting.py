"""A whole video, clip by clip: cut into the model's T frames, sent, and put together again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.client import Client
from auralsam2_client.contract import COMBINATIONS
from auralsam2_client.errors import BadInput
from auralsam2_client.masks import FrameResult
from auralsam2_client.media.reader import Media
from auralsam2_client.media.sound_windows import cut_windows, saturate
from auralsam2_client.prompts import Prompts, check_prompts

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SegmentedMedia:
    """The answer for every sampled frame of a video, in order of time."""

    frames: list[FrameResult]
    num_repeated_windows: int
    """Frames that heard sound of an earlier moment, because the sound ends before the video."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What stood in for what was not there, a line each."""
        if not self.num_repeated_windows:
            return ()
        return (
            f"the sound ends before the video: {self.num_repeated_windows} of {len(self.frames)} frames heard the last "
            "0.975 s again",
        )

    def masks(self) -> NDArray[np.bool_]:
        """Return the masks at the size of the input, [N, H, W] bool."""
        return np.stack([frame.mask for frame in self.frames])


def segment_media(
    client: Client,
    media: Media,
    *,
    prompts: Prompts | None = None,
    use_audio: bool = True,
    combination: str = COMBINATIONS[0],
    answer: str = LOGITS,
    timeout_s: float | None = None,
    progress: Progress | None = None,
) -> SegmentedMedia:
    """Segment the sounding objects of a whole video, and what is marked in one of its clips.

    The frames are cut into consecutive clips of the model's T frames; a last, shorter clip is filled up with its last
    frame for the model only. Clips know nothing of each other: the model's memory reaches over one clip.

    Args:
        prompts: on a frame of the whole video, counted from 0; None for its frame: the first clip's conditioning frame.
            They reach over the clip that the frame is in; the other clips go by their sound.
        use_audio, combination, answer: as `Client.segment`; False needs a video of one clip.
        timeout_s: seconds for each clip; None is the client's own.
        progress: called with (frames done, frames in all) after each clip.
    Raises: as `Client.segment`, and `windows` but for samples that are not finite: those the call itself refuses.
    """
    clip_length = client.num_frames
    results: list[FrameResult] = []
    num_repeated = 0
    total = len(media.frames)
    marked = _marked_clip(prompts, media, clip_length, use_audio)
    for first in range(0, total, clip_length):
        frames = media.frames[first : first + clip_length]
        heard = cut_windows(media.sound, len(frames), media.fps, float(media.times_s[first]))
        num_repeated += heard.num_repeated
        here = prompts if first == marked else None
        if here is not None and here.frame is not None:
            here = replace(here, frame=here.frame - first)
        found = client.segment(
            frames,
            saturate(heard.samples),
            prompts=here,
            use_audio=use_audio,
            combination=combination,
            answer=answer,
            timeout_s=timeout_s,
        )
        for offset, mask in enumerate(found.masks()):
            results.append(
                FrameResult(
                    time_s=float(media.times_s[first + offset]),
                    mask=mask,
                    iou=found.iou[offset],
                    best_candidate=int(found.iou[offset].argmax()),
                    object_score=float(found.object_score[offset]),
                    mode=found.mode,
                )
            )
        if progress is not None:
            progress(len(results), total)
    return SegmentedMedia(results, num_repeated)


def _marked_clip(prompts: Prompts | None, media: Media, clip_length: int, use_audio: bool) -> int:
    """The first frame of the clip that the prompts are in. Raises: BadInput, before anything is sent."""
    total = len(media.frames)
    if prompts is not None:
        check_prompts(prompts, total, *media.frames.shape[1:3])
    if not use_audio and total > clip_length:
        raise BadInput(
            f"Without sound the prompts alone say what to segment, and they reach over one clip of {clip_length}"
            f" frames; the video gives {total}. Take at most {clip_length} (--max-frames, --start, --fps), or keep the"
            " sound."
        )
    frame = 0 if prompts is None or prompts.frame is None else prompts.frame
    return frame - frame % clip_length

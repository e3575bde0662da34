"""A whole video, clip by clip: cut into the model's T frames, several of them on their way at once, put together again.

A clip is read and resized, another computed, a third received at the same time. How many are in flight is the pace's
business (`flow.pace`); results come in the order of time, and are those of one clip after the other.
"""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.planning import Plan, SegmentedClip, notes_of, read_clip
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import BUSY, COMBINATIONS, BuildInfo
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow.deadline import choose_budget, pauses, time_left
from auralsam2_client.flow.pace import Pace
from auralsam2_client.flow.threads import InOrder, Places
from auralsam2_client.masks import FrameResult
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.reader import Media
from auralsam2_client.media.sound_windows import saturate
from auralsam2_client.prompts import Prompts

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SegmentedMedia:
    """The answer for every sampled frame of a video, in order of time."""

    frames: list[FrameResult]
    num_repeated_windows: int
    """Frames that heard sound of an earlier moment, because the sound ends before the video."""
    build: BuildInfo | None = None
    """What answered, where the served build says so."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What stood in for what was not there, a line each."""
        return notes_of(self.num_repeated_windows, len(self.frames))

    def masks(self) -> NDArray[np.bool_]:
        """Return the masks at the size of the input, [N, H, W] bool."""
        return np.stack([frame.mask for frame in self.frames])


def segment_media(
    client: Client,
    media: Media,
    *,
    prompts: Prompts | None = None,
    text: str | None = None,
    use_audio: bool = True,
    combination: str = COMBINATIONS[0],
    answer: str = LOGITS,
    timeout_s: float | None = None,
    progress: Progress | None = None,
    in_flight: int | None = None,
) -> SegmentedMedia:
    """Segment the sounding objects of a whole video, and what is marked in one of its clips.

    The frames are cut into consecutive clips of the model's T frames; a last, shorter clip is filled up with its last
    frame for the model only. Clips know nothing of each other: the model's memory reaches over one clip.

    Args:
        prompts: on a frame of the whole video, counted from 0; None for its frame: the first clip's conditioning frame.
            They reach over the clip that the frame is in; the other clips go by their sound.
        text: as `Client.segment`; it is said of every clip.
        use_audio, combination, answer: as `Client.segment`; False without text needs a video of one clip.
        timeout_s: seconds for each clip; None is the client's own.
        progress: called with (frames done, frames in all) after each clip, in order of time.
        in_flight: clips that may be on their way at once, 1 to 16; fewer after a refusal. None is the usual number, 3.
    Raises: as `Client.segment`, and `windows` but for samples that are not finite: those the call itself refuses. A
        clip that the server has no place for is sent again until its time is over.
    """
    total = len(media.frames)
    results: list[FrameResult] = []
    num_repeated, build = 0, None
    segmented = segment_clips(
        client,
        media,
        prompts=prompts,
        text=text,
        use_audio=use_audio,
        combination=combination,
        answer=answer,
        timeout_s=timeout_s,
        in_flight=in_flight,
    )
    with closing(segmented):
        for clip in segmented:
            results += clip.results
            num_repeated += clip.num_repeated_windows
            build = clip.build
            if progress is not None:
                progress(len(results), total)
    return SegmentedMedia(results, num_repeated, build)


def segment_clips(
    client: Client,
    source: Media | Iterable[MediaClip],
    *,
    prompts: Prompts | None = None,
    text: str | None = None,
    use_audio: bool = True,
    combination: str = COMBINATIONS[0],
    answer: str = LOGITS,
    timeout_s: float | None = None,
    in_flight: int | None = None,
) -> Generator[SegmentedClip, None, None]:
    """Segment a video clip by clip as `segment_media` does, and give each clip as soon as those before it are there.

    Memory holds the clips in flight and no others. A loop that ends early closes what is given here
    (`contextlib.closing`): calls under way are called off, and no thread is left.

    Args:
        source: a video, or its clips, of at most T frames each; the next is taken while others are computed. Prompts
            need the video.
    Raises: as `segment_media`, each error in the turn of its clip.
    """
    plan = Plan(source, client.num_frames, prompts, use_audio, combination, answer, text)
    return _segmented(client, plan, Pace(in_flight), choose_budget(client.timeout_s, timeout_s))


def _segmented(client: Client, plan: Plan, pace: Pace, budget_s: float) -> Generator[SegmentedClip, None, None]:
    places, channel = Places(pace), client.own_channel()

    def ask(clip: MediaClip) -> SegmentedClip:
        return read_clip(clip, _answer(channel, plan, clip, places, budget_s, client.retries))

    def stop() -> None:
        places.stop()
        channel.close()

    # One worker more than there are places reads the next clip; what is done early waits for those before it.
    num_workers = pace.most + 1
    with InOrder(plan.clips(), ask, num_workers=num_workers, num_ahead=num_workers, stop=stop) as segmented:
        yield from segmented


def _answer(client: Client, plan: Plan, clip: MediaClip, places: Places, budget_s: float, retries: int) -> Segmentation:
    """Ask for one clip until it is answered; its time begins with its first place.

    A server that never answered is asked as often as the client retries; one that did is waited for all the time.
    """
    deadline = None
    tries = pauses(retries, lambda: places.pace.has_answered)
    pause_s: float | None
    while True:
        places.take()
        deadline = time.monotonic() + budget_s if deadline is None else deadline
        try:
            left_s = time_left(deadline, budget_s)
            answer = client.segment(clip.frames, saturate(clip.heard.samples), **plan.question(clip), timeout_s=left_s)
        except ServerUnavailable as error:
            if error.code in BUSY:
                pause_s = places.leave_refused()
            else:
                places.leave()
                pause_s = next(tries)
            if pause_s is None or time.monotonic() + pause_s >= deadline:
                raise
        except BaseException:
            places.leave()
            raise
        else:
            places.leave(answered=True)
            return answer
        places.pause(pause_s)

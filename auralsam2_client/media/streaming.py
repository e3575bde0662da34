"""A video read while it is segmented: its clips one after the other, so that memory holds few frames at once.

Frames and sound are those of `read_media`, to the bit. The sound is read as far as the frames that hear it.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.containers.tracks import Used
from auralsam2_client.media.reader import facts_of
from auralsam2_client.media.reading import open_media
from auralsam2_client.media.sound_ahead import Listener, SoundAhead
from auralsam2_client.media.sound_windows import Windows, cut_windows


class MediaStream:
    """A clip as it is read. A context manager, and read once.

    Args: as `read_media`.
    Raises: BadInput, as `read_media`: what is wrong with the beginning when it is made, the rest where it is met.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float = 1.0,
        start_s: float = 0.0,
        max_frames: int | None = None,
        silent: bool = False,
        sound_path: str | Path | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
        strict: bool = False,
    ) -> None:
        self._reading = open_media(
            path,
            fps=fps,
            start_s=start_s,
            max_frames=max_frames,
            silent=silent,
            sound_path=sound_path,
            audio_track=audio_track,
            video_track=video_track,
        )
        self._strict = strict
        self.fps, self.source, self.files = self._reading.plan.fps, self._reading.source, self._reading.files
        self.silent = silent
        self._first = next(self._reading.frames)
        self._sound = SoundAhead(self._reading)
        self._hearing = self._sound.listener()
        self.num_read = 0
        """Frames that were given so far."""
        self.notes: tuple[str, ...] = ()
        """What was missing, damaged or filled up, a sentence each; known after the last clip."""

    def __enter__(self) -> "MediaStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reading.frames.close()
        self._sound.close()

    @property
    def expected(self) -> int | None:
        """How many frames it has by what the file declares; None where it does not say. More where the last is held."""
        return self._reading.found.expected

    @property
    def used(self) -> Used | None:
        """Of a video file: its tracks, turn and colours; None of a folder."""
        return self._reading.found.used

    @property
    def pixel_aspect(self) -> float:
        """Width by height of a pixel as it is shown."""
        return self._reading.found.aspect

    def facts(self) -> dict[str, Any]:
        """Return what result.json says about the reading, as `Media.facts` does; complete after the last clip."""
        return facts_of(self.notes, self.pixel_aspect, self._reading.found.used)

    def time_s(self, index: int) -> float:
        """Tell when a sampled frame is shown."""
        return self._reading.plan.time_s(index)

    def listener(self) -> Listener:
        """Give somebody who hears the sound beside the clips, from the video's time 0 on, and keeps up with them.

        Raises: BadInput once the clips have passed the beginning of the sound.
        """
        return self._sound.listener()

    def clips(self, clip_length: int) -> Iterator[MediaClip]:
        """Give consecutive clips of `clip_length` frames, the last of what is left.

        Raises: BadInput where it is met; with `strict`, after the last clip, for what was missing or damaged.
        """
        frames = self._frames()
        while (pictures := _stacked(islice(frames, clip_length), clip_length)) is not None:
            first, self.num_read = self.num_read, self.num_read + len(pictures)
            times_s = np.array([self.time_s(index) for index in range(first, self.num_read)])
            yield MediaClip(first, pictures, times_s, self._heard(times_s))
            del pictures
        notes = self._reading.notes
        notes.merge(self._sound.notes(self._reading.sound_until_s(self.num_read)))
        self.notes = tuple(notes.lines)
        if self._strict:
            notes.check_whole()

    def _heard(self, times_s: NDArray[np.float64]) -> Windows:
        begin_s, end_s = float(times_s[0]), float(times_s[-1]) + 1 / self.fps
        sound, num_before = self._hearing.hear(int(begin_s * SAMPLE_RATE), math.ceil(end_s * SAMPLE_RATE))
        return cut_windows(sound, len(times_s), self.fps, begin_s, num_before=num_before)

    def _frames(self) -> Iterator[NDArray[np.uint8]]:
        yield self._first
        del self._first
        yield from self._reading.frames


def _stacked(frames: Iterator[NDArray[np.uint8]], most: int) -> NDArray[np.uint8] | None:
    """Stack at most so many frames as they come, so that each is in memory once; None where there is none."""
    stack, count = None, 0
    for frame in frames:
        stack = np.empty((most, *frame.shape), np.uint8) if stack is None else stack
        stack[count] = frame
        count += 1
        del frame
    return None if stack is None else stack[:count]

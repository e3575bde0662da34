"""A video read while it is segmented: its clips one after the other, so that memory holds few frames at once.

Frames and sound are those of `read_media`, to the bit. The sound is read beside the frames: its first minute at once,
since no clip goes without it, and all of it in a thread meanwhile.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.errors import BadInput
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.reader import facts_of
from auralsam2_client.media.reading import MAX_SOUND_S, Reading, open_media
from auralsam2_client.media.sampling import MAX_HELD_S
from auralsam2_client.media.sound_windows import cut_windows

Sound = NDArray[np.float32] | None
# Read at once; and how much longer than what a clip hears the sound has to be, so that its end is not heard.
_AT_ONCE_S, _MARGIN_S = 60.0, 2.0


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
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sound")
        self._sound = _Ahead(self._reading, self._pool)
        self.num_read = 0
        """Frames that were given so far."""
        self.notes: tuple[str, ...] = ()
        """What was missing, damaged or filled up, a sentence each; known after the last clip."""

    def __enter__(self) -> "MediaStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and wait for the thread of the sound."""
        self._reading.frames.close()
        self._pool.shutdown(cancel_futures=True)

    @property
    def expected(self) -> int | None:
        """How many frames it has by what the file declares; None where it does not say. More where the last is held."""
        return self._reading.found.expected

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

    def sound(self, until_s: float) -> Sound:
        """Return the sound, [S, 2] at 16 kHz from the video's time 0, to `until_s` at least unless it ends before."""
        return self._sound.until(until_s)

    def clips(self, clip_length: int) -> Iterator[MediaClip]:
        """Give consecutive clips of `clip_length` frames, the last of what is left.

        Raises: BadInput where it is met; with `strict`, after the last clip, for what was missing or damaged.
        """
        frames = self._frames()
        while taken := list(islice(frames, clip_length)):
            first, self.num_read = self.num_read, self.num_read + len(taken)
            times_s = np.array([self.time_s(index) for index in range(first, self.num_read)])
            pictures = np.stack(taken)
            del taken
            sound = self._sound.until(float(times_s[-1]) + 1 / self.fps)
            yield MediaClip(first, pictures, times_s, cut_windows(sound, len(pictures), self.fps, float(times_s[0])))
        notes = self._reading.notes
        notes.merge(self._sound.notes(self._reading.sound_until_s(self.num_read)))
        self.notes = tuple(notes.lines)
        if self._strict:
            notes.check_whole()

    def _frames(self) -> Iterator[NDArray[np.uint8]]:
        yield self._first
        del self._first
        yield from self._reading.frames


class _Ahead:
    """The sound, read ahead of the frames that hear it."""

    def __init__(self, reading: Reading, pool: ThreadPoolExecutor) -> None:
        self._reading = reading
        if reading.found.expected is not None:
            reading.sound_until_s(reading.found.expected)
        # The declared number of frames may be short by one.
        most = reading.plan.limit if reading.found.expected is None else reading.found.expected + 1
        self._whole_s = min(MAX_SOUND_S, reading.plan.time_s(most) + 2 / reading.plan.fps + _MARGIN_S)
        self._until_s = min(self._whole_s, _AT_ONCE_S)
        self._sound, self._notes = self._read(self._until_s)
        self._rest: Future[tuple[Sound, Notes]] | None = None
        if self._whole_s > self._until_s and self._sound is not None:
            self._rest = pool.submit(self._read, self._whole_s)

    def until(self, end_s: float) -> Sound:
        """Return the sound, to `end_s` and some more at least."""
        wanted_s = min(MAX_SOUND_S, end_s + _MARGIN_S)
        if self._is_enough(wanted_s):
            return self._sound
        if self._rest is not None:
            rest, self._rest = self._rest, None
            # Damaged further on, perhaps past the last frame: only what is heard has to be whole.
            with suppress(BadInput):
                self._sound, self._notes = rest.result()
                self._until_s = self._whole_s
        if not self._is_enough(wanted_s):
            self._read_on(wanted_s)
        return self._sound

    def notes(self, until_s: float) -> Notes:
        """Return what was missing or damaged of the sound to there."""
        # What is damaged further on is not heard.
        return self._read(until_s)[1] if self._notes.lines else self._notes

    def _is_enough(self, wanted_s: float) -> bool:
        if self._sound is None or wanted_s <= self._until_s:
            return True
        # It ended before.
        return len(self._sound) < (self._until_s - _MARGIN_S) * SAMPLE_RATE

    def _read_on(self, wanted_s: float) -> None:
        """Read on where a video has more frames than it declares, and as far as its last picture may be held."""
        with suppress(BadInput):
            further_s = min(MAX_SOUND_S, wanted_s + MAX_HELD_S)
            (self._sound, self._notes), self._until_s = self._read(further_s), further_s
            return
        (self._sound, self._notes), self._until_s = self._read(wanted_s), wanted_s

    def _read(self, until_s: float) -> tuple[Sound, Notes]:
        notes = Notes(self._reading.notes.name)
        return self._reading.read_sound(until_s, notes), notes

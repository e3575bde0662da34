"""A video read while it is segmented: its clips one after the other, so that memory holds few frames at once.

Frames and sound are those of `read_media`, to the bit. The sound is read beside the frames: its first minute at once,
since no clip goes without it, and all of it in a thread meanwhile.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.reading import MAX_SOUND_S, Reading, open_media
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
    ) -> None:
        self._reading = open_media(
            path, fps=fps, start_s=start_s, max_frames=max_frames, silent=silent, sound_path=sound_path
        )
        self.fps, self.source, self.files = self._reading.plan.fps, self._reading.source, self._reading.files
        self.silent = silent
        self._first = next(self._reading.frames)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sound")
        self._sound = _Ahead(self._reading, self._pool)
        self.num_read = 0
        """Frames that were given so far."""

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
        """How many frames it has by what the file declares; None where it does not say."""
        return self._reading.found.expected

    def time_s(self, index: int) -> float:
        """Tell when a sampled frame is shown."""
        return self._reading.plan.time_s(index)

    def sound(self, until_s: float) -> Sound:
        """Return the sound, [S, 2] at 16 kHz from the video's time 0, to `until_s` at least unless it ends before."""
        return self._sound.until(until_s)

    def clips(self, clip_length: int) -> Iterator[MediaClip]:
        """Give consecutive clips of `clip_length` frames, the last of what is left."""
        frames = self._frames()
        while taken := list(islice(frames, clip_length)):
            first, self.num_read = self.num_read, self.num_read + len(taken)
            times_s = np.array([self.time_s(index) for index in range(first, self.num_read)])
            pictures = np.stack(taken)
            del taken
            sound = self._sound.until(float(times_s[-1]) + 1 / self.fps)
            yield MediaClip(first, pictures, times_s, cut_windows(sound, len(pictures), self.fps, float(times_s[0])))
        self._reading.sound_until_s(self.num_read)

    def _frames(self) -> Iterator[NDArray[np.uint8]]:
        yield self._first
        del self._first
        yield from self._reading.frames


class _Ahead:
    """The sound, read ahead of the frames that hear it."""

    def __init__(self, reading: Reading, pool: ThreadPoolExecutor) -> None:
        self._read: Callable[[float], Sound] = reading.read_sound
        if reading.found.expected is not None:
            reading.sound_until_s(reading.found.expected)
        # The declared number of frames may be short by one.
        most = reading.plan.limit if reading.found.expected is None else reading.found.expected + 1
        until_s = min(MAX_SOUND_S, reading.plan.time_s(most) + 2 / reading.plan.fps + _MARGIN_S)
        self._at_once_s = min(until_s, _AT_ONCE_S)
        self._first = self._read(self._at_once_s)
        self._rest: Future[Sound] | None = pool.submit(self._read, until_s) if until_s > self._at_once_s else None

    def until(self, end_s: float) -> Sound:
        """Return the sound, to `end_s` and some more at least."""
        if self._rest is None or (self._first is not None and end_s + _MARGIN_S <= self._at_once_s):
            return self._first
        try:
            self._first = self._rest.result()
        except BadInput:
            # Damaged further on, perhaps past the last frame: only what is heard has to be whole.
            return self._read(end_s + _MARGIN_S)
        self._rest = None
        return self._first

"""The sound of a clip that is read while it is segmented: in memory from the slowest of those who hear it, on.

It is read once, as far as somebody asks and little further. What comes are the samples of `read_media`, to the bit.
"""

from collections.abc import Generator
from contextlib import suppress
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.reading import MAX_SOUND_S, Reading
from auralsam2_client.media.sampling import MAX_HELD_S

# How much longer than what is heard the sound has to be read, so that its end is not heard.
_MARGIN_S = 2.0
# What stays before the place of somebody: a window is centred on its frame.
_BEHIND = SAMPLE_RATE


class SoundAhead:
    """The sound [S, 2] float32 at 16 kHz of a reading whose first frame was taken; safe to use from several threads.

    Raises: BadInput, as `Reading.sound_pieces`: what is wrong with the beginning when it is made, the rest where it is
        met.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading, self._using = reading, Lock()
        expected = reading.found.expected
        if expected is not None:
            reading.sound_until_s(expected)
        # The declared number of frames may be short by one.
        most = reading.plan.limit if expected is None else expected + 1
        self._num_before = 0
        self._held: NDArray[np.float32]
        self._pieces: Generator[NDArray[np.float32], None, None]
        self._places: list[int] = []
        self._begin(reading.plan.time_s(most) + 2 / reading.plan.fps + _MARGIN_S)
        if not reading.tracks.silent:
            self._read_to(WINDOW_SAMPLES)

    def close(self) -> None:
        """Close the file."""
        with self._using:
            self._pieces.close()

    def listener(self) -> "Listener":
        """Give somebody who hears it from the beginning on: what it has not passed stays in memory.

        Raises: BadInput where others have passed the beginning, which is gone then.
        """
        with self._using:
            if self._num_before:
                raise BadInput("The beginning of the sound is not in memory any more. Ask for it before the clips.")
            self._places.append(0)
            return Listener(self, len(self._places) - 1)

    def hear(self, who: int, first: int, end: int) -> tuple[NDArray[np.float32] | None, int]:
        """See `Listener.hear`."""
        if self._reading.tracks.silent:
            return None, 0
        with self._using:
            self._places[who] = first
            self._read_to(min(round(MAX_SOUND_S * SAMPLE_RATE), end + round(_MARGIN_S * SAMPLE_RATE)))
            # The last window is heard again where the sound ends before the video.
            passed = min(min(self._places) - _BEHIND, self._num_read - WINDOW_SAMPLES) - self._num_before
            if passed > 0:
                self._held, self._num_before = self._held[passed:].copy(), self._num_before + passed
            return self._held, self._num_before

    def notes(self, until_s: float) -> Notes:
        """Return what was missing or damaged of the sound to there; what is damaged further on is not heard."""
        if self._reading.tracks.silent:
            return self._notes
        with self._using:
            with suppress(BadInput):
                for _ in self._pieces:
                    pass
                if not self._notes.lines:
                    return self._notes
            self._begin(until_s)
            for _ in self._pieces:
                pass
            return self._notes

    @property
    def _num_read(self) -> int:
        return self._num_before + len(self._held)

    def _begin(self, until_s: float) -> None:
        """Open the sound, from its beginning to there."""
        self._until_s, self._notes = min(MAX_SOUND_S, until_s), Notes(self._reading.notes.name)
        self._held = np.zeros((0, 2), np.float32)
        self._to_skip = self._num_before
        self._pieces = self._reading.sound_pieces(self._until_s, self._notes)

    def _read_to(self, end: int) -> None:
        """Read on until sample `end` is there, or the sound is over."""
        while self._num_read < end:
            try:
                piece = next(self._pieces, None)
            except BadInput:
                # Damaged further on, perhaps past the last frame: only what is heard has to be whole.
                if self._until_s <= end / SAMPLE_RATE:
                    raise
                self._begin(end / SAMPLE_RATE)
                continue
            if piece is None:
                # Over, or there are more frames than the video declares, or its last picture is held.
                over = self._num_read < (self._until_s - _MARGIN_S) * SAMPLE_RATE
                if over or self._until_s >= min(MAX_SOUND_S, end / SAMPLE_RATE):
                    return
                self._begin(end / SAMPLE_RATE + MAX_HELD_S)
                continue
            skipped = min(len(piece), self._to_skip)
            self._to_skip -= skipped
            self._held = np.concatenate([self._held, piece[skipped:]])


class Listener:
    """One place in the sound, which moves on."""

    def __init__(self, sound: SoundAhead, number: int) -> None:
        self._sound, self._number = sound, number

    def hear(self, first: int, end: int) -> tuple[NDArray[np.float32] | None, int]:
        """Move to sample `first`, and give the sound from there or before to `end` or behind, unless it ends before.

        Returns: samples [n, 2] and how many of the sound lie before them; None for silence.
        Raises: BadInput where the sound is damaged there.
        """
        return self._sound.hear(self._number, first, end)

    def between(self, first: int, end: int) -> NDArray[np.float32] | None:
        """Move to sample `first`, and give the samples from there to `end`, fewer at the end; None for silence."""
        sound, num_before = self.hear(first, end)
        return None if sound is None else sound[max(0, first - num_before) : max(0, end - num_before)]

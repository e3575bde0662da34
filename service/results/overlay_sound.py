"""The sound under a video, a second after the other, at the rate that players take."""

from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray

# Expected by players and their sound cards; 16 kHz AAC is refused by some.
AAC_RATE = 48_000

SoundBetween = Callable[[int, int], NDArray[np.float32] | None]
"""Gives the samples [n, 2] of a sound from one number to another, fewer at its end; None for silence.

It is asked for one second after the other, each once.
"""


class OverlaySound:
    """Sound [S, 2] float32, from `start_s` on, resampled to AAC_RATE as in one piece.

    Args:
        sound: gives it piece by piece, so that it need not be there as a whole.
        rate: its samples a second.
    """

    def __init__(self, sound: SoundBetween, rate: int, start_s: float = 0.0) -> None:
        self._sound, self._rate, self._given = sound, rate, round(start_s * rate)
        self._ended = False
        self._ready: list[NDArray[np.float32]] = []
        self._num_ready = 0
        self._resampler = None
        if rate != AAC_RATE:
            self._resampler = soxr.ResampleStream(rate, AAC_RATE, 2, dtype="float32", quality="HQ")

    def is_silent(self) -> bool:
        """Tell whether there is no sample of it."""
        self._add()
        return self._ended and self._num_ready == 0

    def take(self, count: int) -> NDArray[np.float32]:
        """Return the next `count` samples, fewer at the end."""
        while self._num_ready < count and not self._ended:
            self._add()
        ready = np.concatenate([np.zeros((0, 2), np.float32), *self._ready])
        self._ready, self._num_ready = [ready[count:]], max(0, len(ready) - count)
        return ready[:count]

    def _add(self) -> None:
        """Take in one more second."""
        if self._ended:
            return
        until = self._given + self._rate
        given = self._sound(self._given, until)
        block = np.zeros((0, 2), np.float32) if given is None else given
        self._ended = len(block) < self._rate
        self._given = until
        if self._resampler is not None:
            block = self._resampler.resample_chunk(np.ascontiguousarray(block), last=self._ended)
            # The filter overshoots.
            block = np.clip(block, -1, 1)
        self._ready.append(block)
        self._num_ready += len(block)

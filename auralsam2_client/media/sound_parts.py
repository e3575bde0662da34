"""A sound track put together from its decoded pieces: each from its own layout and rate, each at its own time."""

import math

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.media.sound import MAX_PEAK, StereoStream, join_pieces

# Timestamps are rounded to the container's clock; only a larger gap between two pieces is a real one.
_GAP_S = 0.05
# Behind damage a gap is what was lost; half a millisecond is the rounding of the coarsest clock.
_LOST_S = 0.0005
# Pieces overlap by so much where a file was joined; less is a muxer's carelessness.
_OVERLAP_S = 0.2


class SoundParts:
    """Collects the pieces of one track as 16 kHz stereo from time 0 on; one track, one use.

    Args:
        name: what messages call the sound.
        until_s: seconds to collect.
    """

    def __init__(self, name: str, until_s: float) -> None:
        self.num_bad_samples = 0
        self.num_gaps = 0
        self.gaps_s = 0.0
        self._name = name
        self._until_s = until_s
        self._kind: tuple[int, tuple[str, ...]] | None = None
        self._stream: StereoStream | None = None
        self._done: list[NDArray[np.float32]] = []
        self._begin_s = 0.0  # of the part that `_stream` collects
        self._num_taken = 0

    @property
    def read_s(self) -> float:
        """Seconds that are collected."""
        return self._begin_s + (0.0 if self._stream is None else self._stream.num_samples / self._stream.rate)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was added."""
        return self._kind is None

    def add(
        self,
        samples: NDArray[np.float32],
        rate: int,
        channels: tuple[str, ...],
        time_s: float | None,
        *,
        behind_damage: bool = False,
        strict_peak: bool = False,
    ) -> None:
        """Append [n, C] float32; silence fills a gap before it.

        Args:
            rate: samples a second.
            channels: by name, as in `downmix_matrix`.
            time_s: when it is heard; None: at once behind what is there. Before 0 is left out.
            behind_damage: a piece before it is lost, so that the smallest gap is real.
            strict_peak: a value beyond full scale means another scale, as in a track of plain floats.
        Raises: BadInput for a rate that is not supported, and beyond full scale if `strict_peak`.
        """
        stream = self._stream_of(rate, channels)
        first = self.read_s == 0
        if time_s is not None:
            gap_s = time_s - self.read_s
            gap = round(gap_s * rate)
            if (first and gap < 0) or gap_s < -_OVERLAP_S:
                samples = samples[-gap:]
            elif gap > 0 and (first or gap_s > (_LOST_S if behind_damage else _GAP_S)):
                if not first and not behind_damage:
                    self.num_gaps, self.gaps_s = self.num_gaps + 1, self.gaps_s + gap_s
                stream.add_silence(min(gap, max(0, math.ceil((self._until_s - self.read_s) * rate))))
        stream.add(self._sound(samples, strict_peak))

    def take(self) -> NDArray[np.float32]:
        """Return what is there so far and was not taken yet, [n, 2] float32 in [-1, 1] at 16 kHz."""
        if self._stream is not None:
            self._done.append(self._stream.take())
        taken = join_pieces(self._done)
        self._num_taken += len(taken)
        return taken

    def finish(self) -> NDArray[np.float32]:
        """Return all of it that was not taken, [S, 2] float32 in [-1, 1] at 16 kHz."""
        if self._stream is not None:
            self._done.append(self._stream.finish())
        return self._done[0] if len(self._done) == 1 else join_pieces(self._done)

    def _sound(self, samples: NDArray[np.float32], strict_peak: bool) -> NDArray[np.float32]:
        """Silence what is no number, and clip what a decoder made of damage."""
        bad = ~np.isfinite(samples)
        if bad.any():
            self.num_bad_samples += int(bad.any(axis=1).sum())
            samples = np.where(bad, np.float32(0), samples)
        return samples if strict_peak else np.clip(samples, -MAX_PEAK, MAX_PEAK)

    def _stream_of(self, rate: int, channels: tuple[str, ...]) -> StereoStream:
        """The stream of the current part; a new one where rate or layout change."""
        if self._stream is None or self._kind != (rate, channels):
            fresh = StereoStream(rate, channels, self._name)
            if self._stream is not None:
                self._close()
            self._stream, self._kind = fresh, (rate, channels)
        return self._stream

    def _close(self) -> None:
        """End a part at its exact time, so that the next begins there."""
        assert self._stream is not None
        end_s = self.read_s
        wanted = max(0, round(end_s * SAMPLE_RATE) - self._num_taken - sum(map(len, self._done)))
        part = self._stream.finish()[:wanted]
        self._done.append(np.pad(part, ((0, max(0, wanted - len(part))), (0, 0))))
        self._begin_s, self._stream = end_s, None

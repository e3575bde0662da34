"""Sound of any rate and channel count -> 16 kHz stereo.

Down-mix  ITU-R BS.775: left = FL + (FC + BL + SL) / sqrt 2, right alike, one back channel at 1/2 on both sides, LFE
          left out; then divided by the larger sum of coefficients, so that samples in [-1, 1] cannot clip. Mono comes
          out doubled.
Resample  soxr, quality HQ, piece by piece: an hour of 5.1 never lies in memory as a whole.
"""

import math
from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.errors import BadInput

# Decoded AAC overshoots 1 a little and is clipped; integers stored as float reach thousands and would become noise.
MAX_PEAK = 16.0
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Samples that are converted, or read from a file, at a time.
BLOCK_SAMPLES = 1 << 18

_HALF_POWER = 1 / math.sqrt(2)
SIDES: dict[str, tuple[float, float]] = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_HALF_POWER, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    **dict.fromkeys(("BC", "TC", "TFC", "TBC", "BFC"), (0.5, 0.5)),
    "DL": (1.0, 0.0),
    "DR": (0.0, 1.0),
    **dict.fromkeys(
        ("BL", "SL", "FLC", "WL", "TFL", "TBL", "TSL", "BFL", "SDL", "SSL", "TTL", "BIL"), (_HALF_POWER, 0.0)
    ),
    **dict.fromkeys(
        ("BR", "SR", "FRC", "WR", "TFR", "TBR", "TSR", "BFR", "SDR", "SSR", "TTR", "BIR"), (0.0, _HALF_POWER)
    ),
}
# What a bare channel count means in a WAV file: the order of the WAVE format.
_CHANNELS_OF_COUNT: dict[int, tuple[str, ...]] = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def channels_of_count(count: int) -> tuple[str, ...] | None:
    """Return the channels that a bare count means, in the order of the WAVE format; None beyond 8."""
    return _CHANNELS_OF_COUNT.get(count)


def downmix_matrix(layout: int | Sequence[str]) -> NDArray[np.float32]:
    """Look up the coefficients from the channels of a layout to left and right.

    Args:
        layout: a channel count (1 to 8, in the order of the WAVE format) or the channels by name ("FL", "FR", ...).
    Returns: [C, 2] float32; the larger of the two column sums is 1.
    Raises: BadInput when the count or a name is not known, or when nothing but LFE is there.
    """
    if isinstance(layout, int):
        if layout not in _CHANNELS_OF_COUNT:
            raise BadInput(f"The sound has {layout} channels; 1 to 8 are supported. Mix it down to stereo first.")
        layout = _CHANNELS_OF_COUNT[layout]
    unknown = [name for name in layout if name not in SIDES]
    if unknown:
        raise BadInput(
            f"The sound has a channel {unknown[0]!r}; known are {', '.join(SIDES)}. Mix it down to stereo first."
        )
    matrix = np.array([SIDES[name] for name in layout], np.float32).reshape(-1, 2)
    loudest = matrix.sum(axis=0).max(initial=0.0)
    if loudest == 0:
        raise BadInput(f"The sound has only the channels {list(layout)}; at least one other than LFE is needed.")
    return np.asarray(matrix / loudest, np.float32)


class StereoStream:
    """Collects a sound piece by piece as 16 kHz stereo; one sound, one use.

    Args:
        rate: samples a second of the pieces, 1000 to 768000.
        layout: as in `downmix_matrix`.
        name: what messages call the sound.
    Raises: BadInput for a rate or a layout that is not supported.
    """

    def __init__(self, rate: int, layout: int | Sequence[str], name: str = "the sound") -> None:
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise BadInput(f"{name} has {rate} Hz; supported are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz. Resample it first.")
        self.rate = rate
        self.num_samples = 0
        self._name = name
        self._matrix = downmix_matrix(layout)
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 2, dtype="float32", quality="HQ")
        self._pieces: list[NDArray[np.float32]] = []
        self._num_kept = 0
        self._blocks: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Append [n, C] float32 in [-1, 1]. Raises BadInput at NaN, Inf or a peak above 16, naming its sample."""
        peak = float(np.abs(samples).max(initial=0.0))
        # A NaN makes the maximum NaN, so that one comparison finds all three.
        if not peak <= MAX_PEAK:
            self._reject(samples)
        for start in range(0, len(samples), BLOCK_SAMPLES):
            block = samples[start : start + BLOCK_SAMPLES]
            self._keep(self._resampler.resample_chunk(np.ascontiguousarray(block @ self._matrix), last=False))
        self.num_samples += len(samples)

    def add_silence(self, num_samples: int) -> None:
        """Append num_samples zeros at the rate of the pieces."""
        for start in range(0, num_samples, BLOCK_SAMPLES):
            self.add(np.zeros((min(BLOCK_SAMPLES, num_samples - start), len(self._matrix)), np.float32))

    def take(self) -> NDArray[np.float32]:
        """Return what came out so far and was not taken yet, [n, 2] float32 in [-1, 1] at 16 kHz."""
        sound = join_pieces([*self._blocks, *self._pieces])
        self._blocks.clear()
        self._pieces.clear()
        self._num_kept = 0
        # The resampling filter and lossy decoders overshoot; the server's contract is [-1, 1].
        return np.clip(sound, -1.0, 1.0, out=sound)

    def finish(self) -> NDArray[np.float32]:
        """Return all of it that was not taken, [S, 2] float32 in [-1, 1] at 16 kHz."""
        self._keep(self._resampler.resample_chunk(np.zeros((0, 2), np.float32), last=True), last=True)
        sound = join_pieces(self._blocks)
        return np.clip(sound, -1.0, 1.0, out=sound)

    def _keep(self, piece: NDArray[np.float32], *, last: bool = False) -> None:
        """Keep a piece. Small ones are put together: many of them would tear memory into pieces as small."""
        self._pieces.append(piece)
        self._num_kept += len(piece)
        if last or self._num_kept >= BLOCK_SAMPLES:
            self._blocks.append(np.concatenate(self._pieces))
            self._pieces.clear()
            self._num_kept = 0

    def _reject(self, samples: NDArray[np.float32]) -> None:
        bad = ~(np.abs(samples) <= MAX_PEAK)
        index, channel = (int(i) for i in np.argwhere(bad)[0])
        value = samples[index, channel]
        at = f"sample {self.num_samples + index} ({(self.num_samples + index) / self.rate:.3f} s), channel {channel}"
        if np.isfinite(value):
            raise BadInput(
                f"{self._name}: {at} is {value:g}; float samples lie in [-1, 1]. Divide by the full scale first."
            )
        raise BadInput(
            f"{self._name}: {at} is {value}; every sample must be a finite number. Replace it, or use --silent."
        )


def join_pieces(pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put pieces [n, 2] one after the other, newly allocated, and empty the list.

    Each is given back as soon as it is copied, so that the sound lies in memory once.
    """
    sound = np.empty((sum(map(len, pieces)), 2), np.float32)
    end = len(sound)
    while pieces:
        piece = pieces.pop()
        sound[end - len(piece) : end] = piece
        end -= len(piece)
    return sound


def to_stereo_16k(samples: NDArray[np.float32], rate: int, layout: int | Sequence[str]) -> NDArray[np.float32]:
    """Mix down to stereo and resample to 16 kHz.

    Args:
        samples: [n, C] float32 in [-1, 1].
        rate: samples a second, 1000 to 768000.
        layout: the channel count C (order of the WAVE format) or the C channels by name, as `av` names them.
    Returns: [S, 2] float32 in [-1, 1], S about n * 16000 / rate.
    Raises: BadInput when samples is empty, not [n, C], or holds NaN, Inf or a peak above 16.
    """
    num_channels = layout if isinstance(layout, int) else len(layout)
    if samples.ndim != 2 or samples.shape[1] != num_channels or len(samples) == 0:
        raise BadInput(f"samples has shape {list(samples.shape)}; must be [n, {num_channels}] with n at least 1.")
    stream = StereoStream(rate, layout)
    stream.add(samples)
    return stream.finish()

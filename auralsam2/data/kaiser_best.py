"""The resampling filter of the released scripts, resampy's `kaiser_best`, in NumPy: for sound that is not at 16 kHz.

Band-limited interpolation (Smith and Gossett 1984): a sample at time t of the input is the sum of the input's samples
near t, weighed by a windowed sinc whose cut-off follows the lower of the two rates. The sinc is a table of 8192 entries
for each zero crossing, read with linear interpolation; a step in it is a whole number of entries, as in resampy, which
stretches the filter by a few parts in 1e5 and cannot be told from it otherwise.
Source: resampy 0.4.3, the version that the release pins. Values equal the package's to rounding (a test holds some).
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_ZEROS, TABLE_STEPS = 50, 8192
"""Zero crossings of the sinc on each side, and entries of the table from one to the next."""
KAISER_BETA, ROLL_OFF = 12.984585247040012, 0.9173473712608761
_BLOCK = 1 << 15

Floats = NDArray[np.float64]


class _Wing(NamedTuple):
    """How the weights of one side are read from the table, for each sample of the output."""

    entry: NDArray[np.int64]
    """The first."""
    rest: Floats
    """How far behind it, 0 to 1."""
    num_entries: NDArray[np.int64]
    """How many there are."""


@cache
def _half_window() -> Floats:
    """The right half of the filter, [50 * 8192 + 1]."""
    num_steps = NUM_ZEROS * TABLE_STEPS
    sinc = ROLL_OFF * np.sinc(ROLL_OFF * np.linspace(0, NUM_ZEROS, num_steps + 1))
    return np.asarray(np.kaiser(2 * num_steps + 1, KAISER_BETA)[num_steps:] * sinc)


def resample(sound: Floats, rate: int, new_rate: int) -> Floats:
    """Bring sound to another rate.

    Args:
        sound: [S, C] float64.
        rate, new_rate: in Hz.
    Returns: [S * new_rate / rate, C], cut to a whole number of samples; there may be none.
    """
    ratio = new_rate / rate
    num_out = int(len(sound) * float(new_rate) / float(rate))
    scale = min(1.0, ratio)
    window = _half_window() * scale
    slopes = np.diff(window, append=window[-1])
    step = int(scale * TABLE_STEPS)
    times = np.arange(num_out) * (1 / ratio)
    # What lies outside of the sound weighs nothing.
    margin = math.ceil(len(window) / step) + 1
    padded = np.pad(sound, ((margin, margin), (0, 0)))
    found = np.empty((num_out, sound.shape[1]))
    for start in range(0, num_out, _BLOCK):
        time = times[start : start + _BLOCK]
        whole = time.astype(np.int64)
        share: Floats = np.asarray(scale * (time - whole), np.float64)
        left, right = (_wing(part, step) for part in (share, scale - share))
        block = np.zeros((len(time), sound.shape[1]))
        for wing, first, way in ((left, whole + margin, -1), (right, whole + margin + 1, 1)):
            for tap in range(int(wing.num_entries.max())):
                entry = np.minimum(wing.entry + tap * step, len(window) - 1)
                weights = np.where(tap < wing.num_entries, window[entry] + wing.rest * slopes[entry], 0)
                block += weights[:, None] * padded[first + way * tap]
        found[start : start + _BLOCK] = block
    return found


def _wing(share: Floats, step: int) -> _Wing:
    place = share * TABLE_STEPS
    entry = place.astype(np.int64)
    return _Wing(entry, place - entry, (len(_half_window()) - entry) // step)

"""COCO's compressed run lengths, straight from a map's logits: numpy alone, for the server's Python has nothing more.

Source  pycocotools, maskApi.c: rleEncode and rleToString. A mask is read column by column, its runs are counted from
        one of zeros, each count from the fourth on is written as the difference to the one before the last, in groups
        of five bits from the lowest, with a sixth where more follow, as characters from "0".
"""

import numpy as np

from auralsam2_client.enlarging import above_zero, part, taps

from ..engine import Array

# Pixels of a band of columns: few enough for a processor's cache.
_BAND_PIXELS = 1 << 19
_BITS, _SIGN, _MORE, _FIRST_CHARACTER = 5, 0x10, 0x20, 48


def encode_map(logits: Array, height: int, width: int) -> bytes:
    """Encode where a map, enlarged bilinearly to height x width, is above 0.

    Args:
        logits: [h, w] float32, finite.
        height, width: in pixels, at least 1. Memory follows the number of runs, and hardly the size.
    Returns: the counts as pycocotools has them; the size is [height, width].
    """
    rows, columns = taps(logits.shape[0], height), taps(logits.shape[1], width)
    band, before, changes = max(1, _BAND_PIXELS // height), np.False_, []
    for begin in range(0, width, band):
        mask = above_zero(logits, rows, part(columns, begin, begin + band), by_column=True).reshape(-1)
        if mask[0] != before:
            changes.append(np.array([begin * height]))
        changes.append(np.flatnonzero(mask[1:] != mask[:-1]) + (begin * height + 1))
        before = mask[-1]
    return compress(np.diff(np.concatenate([*changes, [height * width]]), prepend=0))


def compress(counts: Array) -> bytes:
    """Write run lengths [N], int64, that begin with a run of zeros, as COCO's text."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    groups, written, going = [], [], np.ones(len(values), np.bool_)
    while going.any():
        group = values & (_MORE - 1)
        values = values >> _BITS
        more = np.where(group & _SIGN, values != -1, values != 0)
        groups.append((group + np.where(more, _MORE, 0) + _FIRST_CHARACTER).astype(np.uint8))
        written.append(going)
        going = going & more
    return np.stack(groups, axis=1)[np.stack(written, axis=1)].tobytes()

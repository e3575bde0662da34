"""Enlarge logits bilinearly, and tell where they are above 0: one rule for the client and for the server's last stage.

Standard library and numpy alone: a build has a copy beside its stages.
"""

import numpy as np
from numpy.typing import NDArray

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""Along one axis: the two input positions of each output pixel, and the weight of the second."""

# Points are computed one by one where they are fewer than this share; a point costs as much as eight in a row.
_FEW = 1 / 8
_MIXED = 2


def taps(num_in: int, num_out: int) -> Taps:
    """Find what each output pixel reads, as torch's interpolate does (align_corners False, no antialiasing).

    Output pixel p reads the input at max(0, (p + 1/2) n_in / n_out - 1/2).
    """
    # torch computes positions in float32 with one rounding (a fused multiply-add): exact here in float64, then rounded.
    # In plain float32 or float64 the weights differ by 1e-5, and the logits by 1e-4.
    scale = np.float64(np.float32(num_in) / np.float32(num_out))
    position = np.maximum(scale * (np.arange(num_out) + 0.5) - 0.5, 0).astype(np.float32)
    first = np.minimum(position.astype(np.intp), num_in - 1)
    second = np.minimum(first + 1, num_in - 1)
    return first, second, np.clip(position - first.astype(np.float32), np.float32(0), np.float32(1))


def part(of: Taps, begin: int, end: int) -> Taps:
    """Take the taps of the output pixels from `begin` to `end`."""
    first, second, weight = of
    return first[begin:end], second[begin:end], weight[begin:end]


def enlarge(frame: NDArray[np.float32], rows: Taps, columns: Taps) -> NDArray[np.float32]:
    """Enlarge [h, w] to [height, width]: columns first, while there are few rows."""
    first, second, weight = columns
    wide = frame[:, first] * (1 - weight) + frame[:, second] * weight
    first, second, weight = rows[0], rows[1], rows[2][:, None]
    return np.asarray(wide[first] * (1 - weight) + wide[second] * weight, np.float32)


def above_zero(frame: NDArray[np.float32], rows: Taps, columns: Taps, *, by_column: bool = False) -> NDArray[np.bool_]:
    """Tell where `enlarge` is above 0, without computing what the signs of the four neighbours say already.

    What lies between values above 0 is above 0, and what lies between others is not, so that arithmetic is left for the
    edges of a mask: a tenth of the time.

    Args:
        frame: [h, w] float32, finite.
        by_column: turn the answer, so that what lies below one another is one after the other.
    Returns: [height, width], or [width, height] with `by_column`; newly allocated.
    """
    inside = frame > 0
    below, beside = (np.minimum(np.arange(n) + 1, n - 1) for n in frame.shape)
    any_inside, all_inside = inside | inside[below], inside & inside[below]
    any_inside, all_inside = any_inside | any_inside[:, beside], all_inside & all_inside[:, beside]
    # 0 outside, 1 inside, _MIXED at an edge.
    state = any_inside.astype(np.uint8) + (any_inside & ~all_inside)
    outer, inner = (columns, rows) if by_column else (rows, columns)
    found = (state.T if by_column else state)[:, inner[0]][outer[0]]
    flat = found.reshape(-1)
    edge = np.flatnonzero(flat == _MIXED)
    if len(edge) > _FEW * flat.size:
        signs = enlarge(frame, rows, columns) > 0
        return np.ascontiguousarray(signs.T) if by_column else signs
    places = np.divmod(edge, found.shape[1])
    y, x = places[::-1] if by_column else places
    flat[edge] = _enlarged_points(frame, rows, columns, y, x) > 0
    return np.asarray(found.view(np.bool_))


def _enlarged_points(
    frame: NDArray[np.float32], rows: Taps, columns: Taps, y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.float32]:
    """`enlarge` at single pixels, by the same operations in the same order."""
    top, bottom, down = (each[y] for each in rows)
    left, right, across = (each[x] for each in columns)
    upper = frame[top, left] * (1 - across) + frame[top, right] * across
    lower = frame[bottom, left] * (1 - across) + frame[bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)

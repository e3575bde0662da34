"""Simulated people: where a click goes, as SAM2's own evaluation places it, and what is taken from a ground truth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
NEGATIVE, POSITIVE = 0, 1
MIN_PIXELS = 60
"""Of a frame: a thing of which less is seen is not pointed at."""


class Click(NamedTuple):
    """x to the right and y down, in pixels of the mask; label 1 inside, 0 outside."""

    x: int
    y: int
    label: int


def depths(region: Mask) -> NDArray[np.int32]:
    """Count layers of pixels between each pixel of a region and its rim; 0 outside, the picture's border counts.

    Eaten away by turns of four and of eight neighbours, which is close to a round distance.
    """
    depth = np.zeros(region.shape, np.int32)
    left, turn = region, 0
    while left.any():
        depth += left
        padded = np.pad(left, 1)
        cross = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & left
        if turn % 2:
            cross &= padded[:-2, :-2] & padded[:-2, 2:] & padded[2:, :-2] & padded[2:, 2:]
        left, turn = cross, turn + 1
    return depth


def corrective_click(mask: Mask, truth: Mask) -> Click | None:
    """Find the middle of the thickest error, of what is missing or of what is too much; None where nothing is wrong."""
    missing, extra = depths(truth & ~mask), depths(mask & ~truth)
    if not missing.any() and not extra.any():
        return None
    label = POSITIVE if missing.max() >= extra.max() else NEGATIVE
    depth = missing if label else extra
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(int(x), int(y), label)


def box_of(truth: Mask) -> tuple[int, int, int, int]:
    """Find x0, y0, x1, y1 of the pixels that are set; at least one must be."""
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def points_in(truth: Mask, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw [count, 2] float32 pixels inside, drawn evenly, x then y; at least one pixel must be set."""
    pixels = np.argwhere(truth)
    return np.asarray(pixels[rng.integers(len(pixels), size=count)][:, ::-1], np.float32)

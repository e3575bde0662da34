"""A colour for each class, and label maps drawn on frames in those colours.

Colours are chosen one after the other, each as far as can be from those before it by the distance in OKLab, which
follows what the eye tells apart, and none near black, grey or white. So the first classes differ most, and a class
keeps its colour whatever the number of classes.

Source: OKLab (Ottosson 2020) for the distance.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput

Colour = tuple[int, int, int]
FIRST: Colour = (255, 45, 120)
"""Of class 1: the colour of a mask without classes."""
MAX_CLASSES = 255
ALPHA = 0.65
# Values of a channel that colours are chosen from; how light and how far from grey they are, at least and at most.
_STEPS = np.linspace(0, 255, 16).round().astype(np.uint8)
_LIGHTNESS, _LEAST_CHROMA = (0.5, 0.93), 0.09
# Counted in distances, lightness tells less apart than hue: a tint lies on light and dark things alike.
_WEIGHTS = np.array([0.6, 1.0, 1.0])
_LINEAR_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute where colours [..., 3] sRGB lie in OKLab, [..., 3]; black to white are 1 apart."""
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = np.cbrt(linear @ _LINEAR_TO_CONES.T) @ _CONES_TO_LAB.T
    return lab


@cache
def class_colours(count: int) -> tuple[Colour, ...]:
    """Choose the colours of classes 1 to `count`; those of fewer classes are the first of more.

    Raises: BadInput when count is not 0 to 255.
    """
    if not 0 <= count <= MAX_CLASSES:
        raise BadInput(f"{count} classes; colours are there for 0 to {MAX_CLASSES}.")
    grid = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), -1).reshape(-1, 3)
    places = oklab(grid)
    chroma = np.hypot(places[:, 1], places[:, 2])
    clear = (places[:, 0] > _LIGHTNESS[0]) & (places[:, 0] < _LIGHTNESS[1]) & (chroma > _LEAST_CHROMA)
    grid, places = grid[clear], places[clear]
    chosen, nearest = [FIRST], _distance(places, FIRST)
    while len(chosen) < count:
        red, green, blue = (int(value) for value in grid[nearest.argmax()])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distance(places, chosen[-1]))
    return tuple(chosen[:count])


def _distance(places: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm((places - oklab(np.array(colour, np.uint8))) * _WEIGHTS, axis=-1), np.float64)


def draw_classes(frame: NDArray[np.uint8], labels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Tint the things of a frame in the colours of their classes.

    Args:
        frame: [H, W, 3] uint8 RGB.
        labels: [H, W] uint8: 0 where the frame stays as it is, 1 to `count` in the colour of that class.
        count: of the classes.
    Returns: [H, W, 3] uint8, newly allocated.
    Raises: BadInput when the shapes differ or a label is above `count`.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or labels.shape != frame.shape[:2]:
        raise BadInput(
            f"The frame is {list(frame.shape)}, its labels {list(labels.shape)}; must be [H, W, 3] and [H, W]."
        )
    if labels.max(initial=0) > count:
        raise BadInput(f"The labels go up to {labels.max()}; there are colours for {count} classes.")
    colours = np.array([(0, 0, 0), *class_colours(count)], np.float32)[labels]
    tinted = np.rint(frame * np.float32(1 - ALPHA) + colours * np.float32(ALPHA)).astype(np.uint8)
    return np.where((labels > 0)[..., None], tinted, frame)

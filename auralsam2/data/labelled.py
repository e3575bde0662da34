"""One clip whose every pixel has a label: the class of the thing that sounds there, or none."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.samples import Sample

BACKGROUND = 0
"""The label of what does not sound. Class k of a list of names, counted from 0, has label k + 1."""


@dataclass(frozen=True)
class LabelledClip:
    """A clip to judge classes on."""

    sample: Sample
    labels: NDArray[np.uint8]
    """[T, H', W'], of the size of `sample.masks`; at most 255 classes."""


Reader = Callable[[], LabelledClip]
"""Reads or draws one clip. Raises DataError when it is not as its layout says."""

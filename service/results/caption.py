"""The caption of a drawn frame: which one it is, when it was, and whether something sounds. It hides no pixel of it.

It stands on a strip of its own below the picture, so that places in the overlay are still places in the input.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK = (20, 20, 20), (255, 255, 255)
# Captions of a long clip are some 20 times as wide as their size: a 30th of the shorter side fits every picture.
_SIDES_PER_SIZE = 30
_LEAST_PX = 11
# Narrow pictures have a smaller caption, down to where it cannot be read anyway.
_UNREADABLE_PX = 6


def caption_of(index: int, time_s: float, object_score: float, classes: Sequence[str] = ()) -> str:
    """Write the caption of a frame. How many there are is not in it: of a video that is read, only its end tells.

    Args:
        index: its number from 0, as in the names of masks and in `--frame`.
        time_s: where in the clip it is.
        object_score: logit; above 0 something sounds.
        classes: names of what is in the mask, of a build with classes.
    """
    named = f"   {', '.join(classes)}" if classes else ""
    return f"frame {index}   {time_s:.2f} s   object score {object_score:+.1f}{named}"


def strip_height_px(height: int, width: int) -> int:
    """Tell how high the strip below a picture of that size is. Both together are even, as codecs want it."""
    strip = round(1.6 * _size_px(height, width))
    return strip + (height + strip) % 2


def add_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] uint8 with a strip below it, `strip_height_px` high, on which the caption stands."""
    height, width = picture.shape[:2]
    strip = Image.new("RGB", (width, strip_height_px(height, width)), _PAPER)
    size_px = _size_px(height, width)
    margin = size_px // 2
    while size_px > _UNREADABLE_PX and _font(size_px).getlength(caption) > width - 2 * margin:
        size_px -= 1
    ImageDraw.Draw(strip).text((margin, strip.height / 2), caption, font=_font(size_px), fill=_INK, anchor="lm")
    return np.concatenate([picture, np.asarray(strip)])


def _size_px(height: int, width: int) -> int:
    return max(_LEAST_PX, round(min(height, width) / _SIDES_PER_SIZE))


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)

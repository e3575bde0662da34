"""A mask that is a picture, as data sets and paint programs store it: the object is every pixel that is not background.

What is background follows from what the picture is, in this order:

1. It has transparency: what is transparent (alpha up to 127).
2. It has a palette: index 0.
3. It has colours: black.
4. It is grey and a map of labels (a few flat shades, 1 beside 0 too): black.
5. It is grey with soft edges, or comes from a lossy format: what is darker than the middle.

A palette or a colour picture that holds nothing but shades of grey is grey. `docs/prompts.md` says the same for users.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.media.stills.pictures import opened_picture, turn_upright

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
_WAY_OUT = "Give a PNG: black is background, any other colour the object."
# Half of 64, the darkest value of a channel in the label colours of PASCAL VOC: what lossy formats spread is below.
LOSSY_BLACK = 32
# Channels of a grey picture differ by this much after a lossy format.
_LOSSY_GREY = 8
_WHITES = (1, 255, 65535)
# Soft edges lie beside something brighter, labels by themselves: at least this share of the pixels between black and
# the brightest has no brighter one beside it.
_LEAST_OWN = 0.25
# Shades run into each other where half of all steps from pixel to pixel are below this share of the brightest.
_GRADIENT_STEP = 1 / 32
# Of more labels than these, neighbours seldom follow one on the other; a faint gradient goes in steps of 1.
_FEW_LABELS = 16
# A WebP without loss says so in the first chunk after those of its header.
_WEBP_HEADER_BYTES = 4096


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read which pixels of a mask's picture are of the object, by what the picture is.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF, GIF or a portable pixmap, up to 8192 px a side.
    Returns: [H, W] bool, upright by its EXIF orientation.
    Raises: BadInput when the file is no such picture or too large.
    """
    with opened_picture(path, _WAY_OUT, FORMATS) as image:
        lossy = is_lossy(path, image)
        turn_upright(image)
        return object_pixels(image, lossy=lossy)


def is_lossy(path: Path, image: Image.Image) -> bool:
    """Tell whether the format of an open picture changes values by a little."""
    if image.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8L" not in file.read(_WEBP_HEADER_BYTES)
    return image.format in ("JPEG", "MPO")


def object_pixels(image: Image.Image, *, lossy: bool = False) -> NDArray[np.bool_]:
    """Tell for each pixel of a picture whether it is of the object, [H, W] bool.

    Args:
        lossy: its format changes values by a little, so that black is only nearly black.
    """
    wide = image.mode.startswith(("I", "F"))
    if image.has_transparency_data and not wide:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        # An even veil says nothing about where the object is, unless nothing at all can be seen.
        if alpha.min() < alpha.max() or alpha.max() == 0:
            return np.asarray(alpha > 127)
    if image.mode == "P" and not _is_grey_palette(image):
        return np.asarray(np.asarray(image) != 0)
    if wide or image.mode == "1":
        return _of_grey(np.asarray(image), lossy)
    colours = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if colours.ndim == 2:
        return _of_grey(colours, lossy)
    brightest, darkest = colours.max(-1), colours.min(-1)
    if int((brightest - darkest).max()) <= (_LOSSY_GREY if lossy else 0):
        return _of_grey(brightest, lossy)
    return np.asarray(brightest > (LOSSY_BLACK if lossy else 0))


def _is_grey_palette(image: Image.Image) -> bool:
    """Whether a palette is nothing but a list of shades, black among them, each once; as those of black and white."""
    used = [index for _, index in image.getcolors(256) or []]
    palette = image.getpalette("RGB") or []
    colours = [tuple(palette[3 * index : 3 * index + 3]) for index in used if isinstance(index, int)]
    return (0, 0, 0) in colours and len(set(colours)) == len(colours) and all(len(set(c)) == 1 for c in colours)


def _of_grey(shades: NDArray[Any], lossy: bool) -> NDArray[np.bool_]:
    values = np.where(np.isfinite(shades), shades, 0) if shades.dtype.kind == "f" else shades
    brightest = float(values.max())
    # The white of the scale that the values are in: a 16-bit picture may hold 8-bit values, a float picture 0 to 1.
    whites = (255,) if values.dtype == np.uint8 else _WHITES
    white = next((white for white in whites if brightest <= white), brightest)
    if values.min() < 0:
        # Logits.
        return np.asarray(values > 0)
    if lossy and brightest <= white / 2:
        return np.asarray(values > brightest / 2)
    if not lossy and not _is_gradient(values, brightest) and not _has_soft_edges(values, brightest):
        return np.asarray(values > 0)
    return np.asarray(values > white / 2)


def _is_gradient(values: NDArray[Any], brightest: float) -> bool:
    """Whether shades run into each other, as far as they differ from pixel to pixel at all."""
    steps = np.abs(np.diff(values.astype(np.float32), axis=1))
    steps = steps[steps > 0]
    small = _GRADIENT_STEP * brightest
    if values.dtype.kind in "iu" and brightest > _FEW_LABELS:
        small = max(small, 1.0)
    return len(steps) > 0 and float(np.median(steps)) <= small


def _has_soft_edges(values: NDArray[Any], brightest: float) -> bool:
    """Whether what is between black and the brightest lies on rims; without black there are no labels either."""
    between = (values > 0) & (values < brightest)
    if not between.any():
        return False
    around = np.pad(values, 1, mode="edge")
    rows = np.maximum(np.maximum(around[:-2], around[1:-1]), around[2:])
    brightest_near = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    own = np.count_nonzero(between & (values == brightest_near))
    return bool(values.min() > 0 or own < _LEAST_OWN * np.count_nonzero(between))

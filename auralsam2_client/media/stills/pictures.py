"""One picture from a file: of a closed list of formats, measured before it is decoded, brought to 8-bit RGB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from auralsam2_client.errors import BadInput

MAX_SIDE_PX = 8192
# A closed list keeps PIL's many seldom used parsers away from a stranger's file.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
WHITE_16_BIT = 65535
# Rounding and filters pass 1 by a little; a scale of 255 or 65535 passes it by far.
MAX_FLOAT = 2.0
# What PIL raises for files that are no picture, cut short, or malformed in a chunk; SyntaxError is its PNG plug-in's.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError)
_ORIENTATION = 0x0112


def check_size(name: str, width: int, height: int) -> None:
    """Raise BadInput unless both sides, in pixels, are within 1 to 8192."""
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise BadInput(f"{name} is {width} x {height} px; a side may have 1 to {MAX_SIDE_PX} px. Scale it down first.")


@contextmanager
def opened_picture(path: Path, way_out: str, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open a picture by its header, to be decoded in the block; the library's warnings of its own are not shown.

    Args:
        way_out: what to do about a file that cannot be read, a sentence.
        formats: as the library names them.
    Raises: BadInput when a side is beyond 8192 px, which the header tells, or the file is no such picture or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats) as image:
                check_size(str(path), *image.size)
                yield image
    except Image.DecompressionBombError as error:
        raise _too_large(path, formats) from error
    except _UNREADABLE as error:
        reason = f"none of {', '.join(formats)}" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BadInput(f"{path} cannot be read as an image: {reason}. {way_out}") from error


def _too_large(path: Path, formats: tuple[str, ...]) -> BadInput:
    """Name the size of a picture that the library refused by it, which its error leaves out."""
    with path.open("rb") as file:
        prefix = file.read(16)
        for name in formats:
            make, accepts = Image.OPEN[name]
            if accepts is not None and accepts(prefix) is True:
                file.seek(0)
                try:
                    check_size(str(path), *make(file, str(path)).size)
                except BadInput as error:
                    return error
    return BadInput(f"{path} has too many pixels; a side may have 1 to {MAX_SIDE_PX} px. Scale it down first.")


def turn_upright(image: Image.Image) -> None:
    """Turn a picture in place, as its EXIF orientation says; decodes it."""
    ImageOps.exif_transpose(image, in_place=True)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Read (height, width) as displayed from an open picture's header."""
    width, height = image.size
    # Asking a PNG for EXIF that its header lacks would decode all of it. Orientations 5 to 8 swap the axes.
    has_exif = image.format != "PNG" or "exif" in image.info
    swapped = has_exif and image.getexif().get(_ORIENTATION, 1) >= 5
    return (width, height) if swapped else (height, width)


def to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Decode an open picture to [H, W, 3] uint8 RGB, upright by its EXIF orientation. Transparency is left out.

    Of 16 bits the upper 8 are taken, as of a colour picture with 16 bits. A picture of floats goes from 0, black, to 1.

    Raises: BadInput for numbers of another scale.
    """
    turn_upright(image)
    if image.mode == "F":
        return _grey(_from_floats(np.asarray(image), name))
    if image.mode.startswith("I"):
        return _grey(_from_16_bits(np.asarray(image), name))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(shades: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(shades[..., None], 3, axis=-1)


def _from_16_bits(values: NDArray[np.integer], name: str) -> NDArray[np.uint8]:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > WHITE_16_BIT:
        raise BadInput(
            f"{name} has values from {lowest} to {highest}; a grey picture of whole numbers is read from 0, black, to"
            f" {WHITE_16_BIT}, white. Write it with 8 or 16 bits."
        )
    return (values >> 8).astype(np.uint8)


def _from_floats(values: NDArray[np.floating], name: str) -> NDArray[np.uint8]:
    if not np.isfinite(values).all() or not -MAX_FLOAT <= values.min() <= values.max() <= MAX_FLOAT:
        raise BadInput(
            f"{name} has values from {values.min():g} to {values.max():g}; a picture of floats is read from 0, black,"
            " to 1, white. Scale it, or write it with 8 or 16 bits."
        )
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)

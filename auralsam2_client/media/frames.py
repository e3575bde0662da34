"""Still images: a folder of frames, and the resizing at the edge that the published pipeline does with PIL."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from auralsam2_client.errors import BadInput

MAX_SIDE_PX = 8192
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# A closed list keeps PIL's many seldom used parsers away from a stranger's file.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")


def check_size(name: str, width: int, height: int) -> None:
    """Raise BadInput unless both sides, in pixels, are within 1 to 8192."""
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise BadInput(f"{name} is {width} x {height} px; a side may have 1 to {MAX_SIDE_PX} px. Scale it down first.")


def list_frames(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted by name.

    Raises: BadInput when there are fewer than two, or the folder cannot be read.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError as error:
        raise BadInput(f"Folder {folder} cannot be read: {error.strerror}. Check its permissions.") from error
    if len(paths) < 2:
        raise BadInput(
            f"Folder {folder} holds {len(paths)} images ({', '.join(SUFFIXES)}); at least 2 frames are needed. "
            "Add frames, named so that they sort in order."
        )
    return paths


def image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) as displayed from an image's header; no pixel is decoded.

    Raises: BadInput when the file is no image, or a side is beyond 8192 px.
    """
    try:
        with _open(path) as image:
            width, height = image.size
            check_size(str(path), width, height)
            # Asking a PNG for EXIF that its header lacks would decode all of it. Orientations 5 to 8 swap the axes.
            has_exif = image.format != "PNG" or "exif" in image.info
            swapped = has_exif and image.getexif().get(0x0112, 1) >= 5
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return (width, height) if swapped else (height, width)


def read_frames(paths: Sequence[Path], progress: Callable[[int, int | None], None] | None = None) -> NDArray[np.uint8]:
    """Read images of one size, upright by their EXIF orientation.

    Args:
        paths: N image files, at least one.
        progress: called with (images read, N) after each.
    Returns: [N, H, W, 3] uint8 RGB.
    Raises: BadInput when an image is corrupt, beyond 8192 px a side, or of another size than the first.
    """
    # All headers first, so that a folder of mixed sizes is refused before any memory is taken.
    height, width = image_size(paths[0])
    for path in paths[1:]:
        other = image_size(path)
        if other != (height, width):
            raise BadInput(
                f"{paths[0].name} is {width} x {height} px, but {path.name} is {other[1]} x {other[0]} px; "
                "all frames of a clip have one size. Scale them to one size first."
            )
    frames = np.empty((len(paths), height, width, 3), np.uint8)
    for index, path in enumerate(paths):
        try:
            with _open(path) as image, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frames[index] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
        if progress is not None:
            progress(index + 1, len(paths))
    return frames


def resize_frames(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize to a square with PIL's bicubic filter, exactly as the published pipeline does.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        size: side of the square in pixels, 1 to 8192.
    Returns: [T, size, size, 3] uint8, newly allocated.
    Raises: BadInput when frames has another shape or type, or size is out of range.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise BadInput(
            f"frames is {frames.dtype} {list(frames.shape)}; must be uint8 [T, H, W, 3]. Convert to RGB first."
        )
    check_size("frames", frames.shape[2], frames.shape[1])
    check_size("The model's square", size, size)
    resized = np.empty((len(frames), size, size, 3), np.uint8)
    for index, frame in enumerate(frames):
        resized[index] = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
    return resized


# What PIL raises for files that are no image, cut short, or malformed in a chunk; SyntaxError is its PNG plug-in's.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # PIL warns beyond 89 megapixels; any image that large has a side beyond our own limit, which is an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_FORMATS)


def _unreadable(path: Path, error: BaseException) -> BadInput:
    if isinstance(error, Image.DecompressionBombError):
        return BadInput(f"{path}: {error}. A side may have 1 to {MAX_SIDE_PX} px. Scale it down first.")
    reason = f"none of {', '.join(_FORMATS)}" if isinstance(error, UnidentifiedImageError) else str(error)
    return BadInput(f"{path} cannot be read as an image: {reason}. Replace the file, or take it out of the folder.")

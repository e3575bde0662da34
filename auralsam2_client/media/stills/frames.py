"""Still images: a folder of frames, and the resizing at the edge that the published pipeline does with PIL."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.folders import list_files
from auralsam2_client.media.stills.pictures import check_size, opened_picture, to_rgb, upright_size
from auralsam2_client.run_files import written_files

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_WAY_OUT = "Replace the file, or take it out of the folder."


def list_frames(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order, 2.png before 10.png; masks that a run wrote there are none.

    Raises: BadInput when there are fewer than two, or the folder cannot be read.
    """
    try:
        written = written_files(folder)
        paths = [path for path in list_files(folder, SUFFIXES) if path.name not in written]
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
    with opened_picture(path, _WAY_OUT) as image:
        return upright_size(image)


def read_frames(paths: Sequence[Path], progress: Callable[[int, int | None], None] | None = None) -> NDArray[np.uint8]:
    """Read images of one size, upright by their EXIF orientation, as `pictures.to_rgb` does.

    Args:
        paths: N image files, at least one.
        progress: called with (images read, N) after each.
    Returns: [N, H, W, 3] uint8 RGB.
    Raises: BadInput when an image is corrupt, beyond 8192 px a side, or of another size than the first.
    """
    height, width = check_one_size(paths)
    frames = np.empty((len(paths), height, width, 3), np.uint8)
    for index, path in enumerate(paths):
        with opened_picture(path, _WAY_OUT) as image:
            frames[index] = to_rgb(image, str(path))
        if progress is not None:
            progress(index + 1, len(paths))
    return frames


def check_one_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Read the one (height, width) of images from their headers, before any memory is taken for them.

    Raises: BadInput as `read_frames`.
    """
    height, width = image_size(paths[0])
    for path in paths[1:]:
        other = image_size(path)
        if other != (height, width):
            raise BadInput(
                f"{paths[0].name} is {width} x {height} px, but {path.name} is {other[1]} x {other[0]} px; "
                "all frames of a clip have one size. Scale them to one size first."
            )
    return height, width


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

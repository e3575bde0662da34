"""The files of a data set: numbered images, masks, a WAV, a metadata table; each fault named with file and way out."""

import csv
import re
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from auralsam2.data.resampling import Resampler, to_stereo_16_khz
from auralsam2.errors import DataError
from auralsam2_client.errors import BadInput
from auralsam2_client.media import frames

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_LENGTH_ERROR_S = 1.0
"""How far a clip's sound may be from one second a frame. What is missing, the last window is repeated for."""
_LAST_NUMBER = re.compile(r"(\d+)$")


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a header. Raises DataError when it cannot be read or lacks one of `columns`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: lacks the columns {', '.join(missing)}; found {reader.fieldnames}.")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). It is the data set's list of clips.") from error


def numbered_images(folder: Path, what: str) -> list[Path]:
    """List the images of a folder in the order of the number that ends their names.

    Raises: DataError when the folder is missing or empty, or a name ends with no number.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the clip has no {what}. Complete the data set, or drop the clip.")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise DataError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}); the clip has no {what}.")
    numbers = {}
    for path in paths:
        match = _LAST_NUMBER.search(path.stem)
        if match is None:
            raise DataError(f"{path}: the name must end with the frame's number, as 0.png or clip_1.png do.")
        numbers[path] = int(match[1])
    return sorted(paths, key=numbers.__getitem__)


def _read_label(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable PNG or JPEG ({error}). Fetch it again, or drop the clip.") from error


def _same_size(paths: list[Path], images: list[NDArray[np.uint8]]) -> None:
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"{path} is {image.shape[1]} x {image.shape[0]} px, {paths[0].name} {images[0].shape[1]} x"
                f" {images[0].shape[0]} px; the images of a clip have one size."
            )


def read_frames(paths: list[Path]) -> NDArray[np.uint8]:
    """Read [T, H, W, 3] uint8 RGB as the client does. Raises DataError for a corrupt image, or sizes that differ."""
    try:
        return frames.read_frames(paths)
    except BadInput as error:
        raise DataError(f"{paths[0].parent}: {error} Or drop the clip.") from error


def read_masks(paths: list[Path]) -> NDArray[np.bool_]:
    """Read [T, H, W]: every pixel that is not black is of the object. Raises DataError as `read_frames` does."""
    images = [_read_label(path) for path in paths]
    _same_size(paths, images)
    return np.stack([image.any(-1) for image in images])


def read_sound(path: Path, num_frames: int, resampler: Resampler = "soxr") -> NDArray[np.float32]:
    """Read [samples, 2] float32 at 16 kHz.

    Args:
        resampler: see `to_stereo_16_khz`.
    Raises: DataError for an unreadable file, one that is not about as many seconds long as the clip has frames, or one
    of another rate where the package of `resampler` is not installed.
    """
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: not a readable WAV ({error}). Fetch it again, or drop the clip.") from error
    length_s = len(sound) / rate
    if abs(length_s - num_frames) > MAX_LENGTH_ERROR_S:
        raise DataError(
            f"{path}: {length_s:.2f} s of sound for {num_frames} frames of one second; at most"
            f" {MAX_LENGTH_ERROR_S:.0f} s may be missing or left over. Cut the sound again, or drop the clip."
        )
    if not np.isfinite(sound).all():
        raise DataError(f"{path}: holds samples that are not finite. Write it again, as 16-bit PCM.")
    try:
        return to_stereo_16_khz(sound, rate, resampler)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error

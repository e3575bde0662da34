"""The files of a data set: numbered images, masks, a WAV, a metadata table; each fault named with file and way out."""

import csv
import re
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from auralsam2.data.resampling import Resampler, to_stereo_16_khz
from auralsam2.errors import DataError
from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills import folders, frames, mask_pictures

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_LENGTH_ERROR_S = 1.0
"""How far a clip's sound may be from one second a frame. What is missing, the last window is repeated for."""
_LAST_NUMBER = re.compile(r"(\d+)$")


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a header; what a row is too short for is empty.

    Raises: DataError when it cannot be read or lacks one of `columns`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: lacks the columns {', '.join(missing)}; found {reader.fieldnames}.")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). It is the data set's list of clips.") from error


def inside(folder: Path, name: str) -> Path:
    """Return what `folder` holds under a name of the data set's table.

    Raises: DataError for a name that is none, or leads elsewhere; nothing is read there.
    """
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise DataError(
            f"{name!r} is no name of a folder in {folder}, and what lies elsewhere is not read. Mend that row of the"
            " data set's table, or drop it."
        )
    return folder / name


def printable(name: str) -> str:
    """Return a name of the data set's table as one line."""
    return name if name.isprintable() else repr(name)


def is_left_over(path: Path) -> bool:
    """Tell whether a file is hidden, or one that Mac or Windows leaves in a folder."""
    return path.name.startswith(".") or folders.is_left_over(path)


def numbered_images(folder: Path, what: str) -> list[Path]:
    """List the images of a folder in the order of the number that ends their names, without left-overs.

    Raises: DataError when the folder is missing, empty or closed, a name ends with no number, or two with the same.
    """
    try:
        found = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{folder}: no such folder; the clip has no {what}. Complete the data set, or drop the clip."
        ) from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}). Check its name and permissions.") from error
    paths = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not is_left_over(path)]
    if not paths:
        raise DataError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}); the clip has no {what}.")
    numbers: dict[int, Path] = {}
    for path in paths:
        match = _LAST_NUMBER.search(path.stem)
        if match is None:
            raise DataError(f"{path}: the name must end with the frame's number, as 0.png or clip_1.png do.")
        other = numbers.setdefault(int(match[1]), path)
        if other != path:
            raise DataError(f"{folder}: {other.name} and {path.name} have one number. Keep one of the two.")
    return [numbers[number] for number in sorted(numbers)]


def _read_mask(path: Path) -> NDArray[np.bool_]:
    try:
        return mask_pictures.read_mask(path)
    except BadInput as error:
        raise DataError(f"{error} Or drop the clip.") from error


def _same_size(paths: list[Path], images: list[NDArray[np.bool_]]) -> None:
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
    """Read [T, H, W]: what is of the object, by what the picture is (`auralsam2_client.media.stills.mask_pictures`).

    Raises DataError as `read_frames` does.
    """
    images = [_read_mask(path) for path in paths]
    _same_size(paths, images)
    return np.stack(images)


def read_sound(path: Path, num_frames: int, resampler: Resampler = "soxr") -> NDArray[np.float32]:
    """Read [samples, 2] float32 at 16 kHz.

    Args:
        resampler: see `to_stereo_16_khz`.
    Raises: DataError for an unreadable file, one that is not about as many seconds long as the clip has frames, or one
    of another rate where the package of `resampler` is not installed.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate, length_s = file.samplerate, file.frames / file.samplerate
            # What is hours too long is not read at all.
            sound = file.read(dtype="float32", always_2d=True) if length_s <= num_frames + MAX_LENGTH_ERROR_S else None
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: not a readable WAV ({error}). Fetch it again, or drop the clip.") from error
    if sound is not None:
        length_s = len(sound) / rate
    if sound is None or not length_s or abs(length_s - num_frames) > MAX_LENGTH_ERROR_S:
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

"""The classes of an AVSBench folder's labels: what `label2idx.json` calls them, and which each pixel is of.

    label2idx.json               name -> number, 0 to K, background 0; or in avss_index/
    <label>/<uid>/labels_rgb/    one PNG a frame; the number of each pixel as a colour, background black
    <label>/<uid>/labels_semantic/   if it is there, read instead: the number itself, in a grey or palette PNG

A number's colour is that of PASCAL VOC: of three bits at a time, the lowest first, one each goes into the highest place
of red, green and blue that is still free.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2.data import avsbench, files
from auralsam2.data.labelled import BACKGROUND, LabelledClip, Reader
from auralsam2.data.resampling import Resampler
from auralsam2.data.samples import Unread
from auralsam2.errors import DataError
from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.pictures import opened_picture, turn_upright

_LISTS = ("label2idx.json", "avss_index/label2idx.json")
_NUMBERS = "labels_semantic"
MAX_NUMBER = 255
_WAY_OUT = "Give a PNG in which each pixel has its class."
_FORMATS = ("PNG", "BMP", "TIFF", "GIF")


def class_names(root: Path) -> tuple[str, ...]:
    """Read the names of the classes 1 to K of a data set; label k has name k - 1.

    Raises: DataError when there is no list, or its numbers are not 0 to K, each once, K at most 255.
    """
    path = next((root / name for name in _LISTS if (root / name).is_file()), None)
    if path is None:
        raise DataError(
            f"{root}: no {' or '.join(_LISTS)}, so its labels say what sounds and not what it is."
            " AVSBench-semantic (V2) comes with that file: copy it there."
        )
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Fetch it again.") from error
    by_number = {number: name for name, number in numbers.items()} if isinstance(numbers, dict) else {}
    if len(by_number) < 2 or sorted(map(str, by_number)) != sorted(map(str, range(len(numbers)))):
        raise DataError(f"{path}: must give names numbers from 0 (background) on, each once: {{name: number}}.")
    if len(by_number) > MAX_NUMBER + 1:
        raise DataError(f"{path}: {len(by_number)} names; at most {MAX_NUMBER} classes and the background are read.")
    return tuple(by_number[number] for number in range(1, len(by_number)))


def colours_of(count: int) -> NDArray[np.uint8]:
    """Compute the colours of numbers 0 to `count` - 1, [count, 3] RGB."""
    numbers = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for place in range(3):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def open_labelled(
    root: Path,
    subset: str,
    split: str = "test",
    limit: int | None = None,
    *,
    pooled: bool = False,
    resampler: Resampler = "soxr",
) -> list[Reader]:
    """List the clips of a subset's split with their classes, a reader each.

    Arguments and errors as `avsbench.open_split`, and those of `class_names`. A reader raises DataError too for a pixel
    that is of no class of the list.
    """
    count = len(class_names(root)) + 1
    clips = avsbench.open_split(root, subset, split, limit, pooled=pooled, resampler=resampler)
    return [partial(_read, clip, root, count) for clip in clips]


def _read(clip: Unread, root: Path, count: int) -> LabelledClip:
    sample = clip.read()
    labels = read_labels(root / sample.name, count)
    if labels.shape[0] != sample.masks.shape[0]:
        raise DataError(
            f"{root / sample.name}: {len(labels)} label maps for {len(sample.masks)} frames; every frame needs one."
        )
    return LabelledClip(replace(sample, masks=labels != BACKGROUND), labels)


def read_labels(folder: Path, count: int) -> NDArray[np.uint8]:
    """Read the label maps of one clip, [T, H', W'] uint8.

    Args:
        folder: of the clip.
        count: of the labels, the background among them.
    Raises: DataError for a picture that cannot be read, or whose size, number or colour is none of these labels.
    """
    numbered = (folder / _NUMBERS).is_dir()
    paths = files.numbered_images(folder / (_NUMBERS if numbered else "labels_rgb"), "labels")
    labels = [_numbers(path, count) if numbered else _by_colour(path, count) for path in paths]
    if len({each.shape for each in labels}) > 1:
        raise DataError(f"{paths[0].parent}: its label maps have several sizes; those of a clip have one.")
    return np.stack(labels)


def _numbers(path: Path, count: int) -> NDArray[np.uint8]:
    values = _pixels(path, ("L", "P"))
    if values.max() >= count:
        raise DataError(f"{path}: holds the number {values.max()}; {_LISTS[0]} names 0 to {count - 1}.")
    return values


def _by_colour(path: Path, count: int) -> NDArray[np.uint8]:
    pixels = _pixels(path, ("RGB",)).astype(np.int32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    colours = colours_of(count).astype(np.int32)
    known = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    order = np.argsort(known)
    place = np.searchsorted(known, packed, sorter=order).clip(max=count - 1)
    labels = order[place]
    strange = known[labels] != packed
    if strange.any():
        colour = tuple(int(value) for value in pixels[strange][0])
        raise DataError(
            f"{path}: {int(strange.sum())} pixels are of no class's colour, the first of them {colour};"
            f" {_LISTS[0]} names {count - 1} classes. Labels of AVSBench-object are white, and say no"
            " class: take those of AVSBench-semantic (V2)."
        )
    return np.asarray(labels, np.uint8)


def _pixels(path: Path, modes: tuple[str, ...]) -> NDArray[np.uint8]:
    """The pixels of a picture in the first of `modes`, or as they are where they are in another of them."""
    try:
        with opened_picture(path, _WAY_OUT, _FORMATS) as image:
            turn_upright(image)
            return np.asarray(image if image.mode in modes else image.convert(modes[0]), np.uint8)
    except BadInput as error:
        raise DataError(f"{error} Or drop the clip.") from error

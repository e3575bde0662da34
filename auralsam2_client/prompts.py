"""Points, boxes and masks in pixels of the input, and text: checked, scaled to the model's square, put on the wire.

A mask on the wire is 1 inside, -1 outside, between them on the rim; the contract has the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.contract import (
    BESIDE,
    BOTTOM_RIGHT,
    COMBINATIONS,
    DEFAULT_FRAME,
    MASK_STRIDE,
    MAX_POINTS,
    ON,
    TEXT,
    TOP_LEFT,
    FramePrompt,
)
from auralsam2_client.errors import BadInput
from auralsam2_client.words import split_words, too_long, too_many

LABELS: dict[Any, int] = {"+": ON, "-": BESIDE, 1: ON, 0: BESIDE}

Point = tuple[float, float, str | int]
Box = tuple[float, float, float, float]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a person marks on one frame. A mask stands alone, as in SAM2.

    Args:
        points: (x, y, label) in pixels of the input; "+" or 1: on the object, "-" or 0: beside it.
        box: (x0, y0, x1, y1) in pixels of the input.
        mask: [H, W], bool or numbers: the object is where it is not 0.
        frame: index of the frame in the clip; None: the model's conditioning frame.
    """

    points: Sequence[Point] = ()
    box: Box | None = None
    mask: NDArray[Any] | None = None
    frame: int | None = None

    @property
    def num_entries(self) -> int:
        """Entries on the wire: a box takes two."""
        return len(self.points) + (0 if self.box is None else 2)


def frame_prompt(
    prompts: Prompts, num_frames: int, height: int, width: int, image_size: int
) -> FramePrompt[NDArray[Any]]:
    """Check `prompts` on a clip of `num_frames` frames of height x width, scale them for a model of `image_size` px.

    Raises: BadInput naming the value, the limit and the way out.
    """
    check_prompts(prompts, num_frames, height, width)
    corners = [] if prompts.box is None else [(*prompts.box[:2], TOP_LEFT), (*prompts.box[2:], BOTTOM_RIGHT)]
    entries = [*corners, *((x, y, LABELS[label]) for x, y, label in prompts.points)]
    coords = np.array([(x * image_size / width, y * image_size / height) for x, y, _ in entries], np.float32)
    mask = None if prompts.mask is None else _shrink_mask(np.asarray(prompts.mask), image_size // MASK_STRIDE)
    return FramePrompt(
        DEFAULT_FRAME if prompts.frame is None else int(prompts.frame),
        coords.reshape(-1, 2),
        np.array([label for *_, label in entries], np.int32),
        mask,
    )


def setting_tensors(use_audio: bool, combination: str) -> Tensors:
    """Make USE_AUDIO and COMBINATION; each is left out where the model does the same by itself. Raises: BadInput."""
    if combination not in COMBINATIONS:
        raise BadInput(f"combination = {combination!r}; must be one of {', '.join(COMBINATIONS)}.")
    tensors: Tensors = {} if use_audio else {"USE_AUDIO": np.array([False])}
    if combination != COMBINATIONS[0]:
        tensors["COMBINATION"] = np.array([COMBINATIONS.index(combination)], np.int32)
    return tensors


def text_tensors(text: str | None) -> Tensors:
    """Make TEXT; None, or a text without a word, says nothing and is left out.

    Raises: BadInput for what is no text, cannot be encoded, or has too many words.
    """
    if text is None:
        return {}
    if not isinstance(text, str):
        raise BadInput(f"text is a {type(text).__name__}; must be a str, one sentence. Decode or join it.")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"text has {text[error.start]!r} at {error.start}, half a character, which is no UTF-8. Decode its source"
            " with its own encoding."
        ) from error
    wrong = too_long(encoded)
    words = [] if wrong is not None else split_words(text)
    wrong = wrong or too_many(words)
    if wrong is not None:
        raise BadInput(wrong)
    return {TEXT: np.array([encoded], np.object_)} if words else {}


def check_prompts(prompts: Prompts, num_frames: int, height: int, width: int) -> None:
    """Check that the prompts fit a clip of `num_frames` frames of height x width. Raises: BadInput."""
    if prompts.frame is not None and not (
        isinstance(prompts.frame, int | np.integer) and 0 <= prompts.frame < num_frames
    ):
        raise BadInput(
            f"frame = {prompts.frame!r}; the clip has frames 0 to {num_frames - 1}. Leave it out for the conditioning"
            " frame."
        )
    if prompts.num_entries > MAX_POINTS:
        with_box = "" if prompts.box is None else " and a box"
        raise BadInput(
            f"{len(prompts.points)} points{with_box} take {prompts.num_entries} entries; a frame has {MAX_POINTS}, two"
            f" of which a box takes. Leave {prompts.num_entries - MAX_POINTS} points out."
        )
    for number, point in enumerate(prompts.points):
        _check_point(number, point, height, width)
    if prompts.box is not None:
        _check_box(prompts.box, height, width)
    if prompts.mask is None:
        if not prompts.num_entries:
            raise BadInput("The prompts are empty; give points, a box or a mask, or no prompts at all.")
        return
    if prompts.num_entries:
        raise BadInput("mask came with points or a box; on a frame SAM2 takes one or the other. Leave one out.")
    mask = np.asarray(prompts.mask)
    if mask.shape != (height, width) or mask.dtype.kind not in "biuf":
        raise BadInput(
            f"mask is {mask.dtype} {list(mask.shape)}; must be of the frame's size, [{height}, {width}]. Resize it."
        )
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise BadInput("mask has values that are not finite. Give a mask of bool, or of 0 and 1.")
    if not mask.any():
        raise BadInput("mask is empty; it must be True (or not 0) on the object.")


def _check_point(number: int, point: Point, height: int, width: int) -> None:
    if not isinstance(point, Sequence) or len(point) != 3:
        raise BadInput(f'points[{number}] = {point!r}; must be (x, y, label), as (120, 200, "+").')
    x, y, label = point
    if isinstance(label, bool) or not isinstance(label, str | int | np.integer) or label not in LABELS:
        raise BadInput(
            f'points[{number}] has the label {label!r}; must be "+" or 1 (on the object), "-" or 0 (beside it).'
        )
    if not all(isinstance(value, int | float | np.integer | np.floating) for value in (x, y)):
        raise BadInput(f"points[{number}] = ({x!r}, {y!r}); must be two numbers, pixels of the input.")
    if not (0 <= x < width and 0 <= y < height):
        raise BadInput(
            f"points[{number}] = ({x:g}, {y:g}) lies outside the frame; x must be 0 to {width - 1} and y 0 to"
            f" {height - 1}, in pixels of the input."
        )


def _check_box(box: Box, height: int, width: int) -> None:
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise BadInput(f"box = {box!r}; must be (x0, y0, x1, y1), four numbers.")
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= width and 0 <= x1 <= width and 0 <= y0 <= height and 0 <= y1 <= height):
        raise BadInput(
            f"box = ({x0:g}, {y0:g}, {x1:g}, {y1:g}) reaches outside the frame, which is {width} x {height}. Cut it to"
            " the frame."
        )
    if not (x0 < x1 and y0 < y1):
        raise BadInput(
            f"box = ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or turned round; must be x0 < x1 and y0 < y1: the upper"
            " left corner first."
        )


def _shrink_mask(mask: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Shrink a mask to [side, side]: the share of each cell that is inside, from -1 (none) to 1 (all)."""
    inside = Image.fromarray(np.where(mask != 0, 1, 0).astype(np.float32))
    share = np.asarray(inside.resize((side, side), Image.Resampling.BOX), np.float32)
    logits = 2 * share - 1
    if not (logits > 0).any():
        # An object thinner than a cell covers none by half: its fullest cell stands for it.
        logits[np.unravel_index(int(share.argmax()), share.shape)] = 1
    return logits

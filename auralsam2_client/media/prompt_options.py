"""Prompts from a command line: "120,200,+;30,40,-", "x0,y0,x1,y1" and a picture of a mask."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.mask_pictures import read_mask
from auralsam2_client.prompts import Box, Point, Prompts


def read_prompts(points: str | None, box: str | None, mask: Path | None, frame: int | None) -> Prompts | None:
    """Read the prompts of the options; None where no option is given.

    Raises: BadInput naming the option, what was found and its form. What depends on the clip is checked with it.
    """
    if points is None and box is None and mask is None:
        if frame is not None:
            raise BadInput(
                f"--frame {frame} names the frame of prompts, but there are none. Give --points, --box or --mask."
            )
        return None
    return Prompts(
        points=[] if points is None else [_point(part) for part in points.split(";") if part.strip()],
        box=None if box is None else _box(box),
        mask=None if mask is None else _mask(mask),
        frame=frame,
    )


def _point(text: str) -> Point:
    parts = [part.strip() for part in text.split(",")]
    try:
        x, y, label = parts
        return float(x), float(y), int(label) if label in ("0", "1") else label
    except ValueError as error:
        raise BadInput(f'--points: {text.strip()!r}; must be x,y,+ or x,y,- and ";" between points.') from error


def _box(text: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f"--box: {text!r}; must be x0,y0,x1,y1, four numbers in pixels of the input.") from error
    return x0, y0, x1, y1


def _mask(path: Path) -> NDArray[np.bool_]:
    try:
        return read_mask(path)
    except BadInput as error:
        raise BadInput(f"--mask: {error}") from error

"""Clips in grey with their classes in colour: a row of what is true above a row of what was named, and a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from auralsam2.data.labelled import LabelledClip
from auralsam2.evaluation.classes.semantic import Labels
from auralsam2_client.media.stills.class_colours import class_colours, draw_classes
from auralsam2_client.new_file import new_file

TILE_PX, GAP_PX, CLIP_GAP_PX, MARGIN_PX, LINE_PX = 176, 4, 18, 60, 26
_PAPER, _INK = (250, 250, 250), (30, 30, 34)


def write_picture(
    path: Path, clips: Sequence[tuple[LabelledClip, Labels]], names: Sequence[str], num_frames: int = 5
) -> Path:
    """Write a PNG of clips, with the labels [T, H', W'] that were found in each.

    Args:
        clips: at least one.
        names: of labels 1 to K.
        num_frames: of each clip, the first.
    Returns: the path. Raises: OSError when it cannot be written.
    """
    per_clip = 2 * (TILE_PX + GAP_PX) + CLIP_GAP_PX
    width = MARGIN_PX + num_frames * (TILE_PX + GAP_PX)
    picture = Image.new("RGB", (width, LINE_PX + len(clips) * per_clip), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for row, (clip, found) in enumerate(clips):
        top = row * per_clip
        for line, (what, labels) in enumerate((("true", clip.labels), ("named", found))):
            y = top + line * (TILE_PX + GAP_PX)
            pen.text((6, y + TILE_PX // 2 - 8), what, _INK, font)
            for column, (frame, each) in enumerate(zip(clip.sample.frames[:num_frames], labels, strict=False)):
                picture.paste(_tile(frame, each, len(names)), (MARGIN_PX + column * (TILE_PX + GAP_PX), y))
    x, y = MARGIN_PX, len(clips) * per_clip
    shown = np.unique(np.concatenate([labels.ravel() for clip, found in clips for labels in (clip.labels, found)]))
    for label in shown[shown > 0]:
        name, colour = names[label - 1], class_colours(len(names))[label - 1]
        pen.rectangle((x, y + 4, x + 14, y + 18), fill=colour)
        pen.text((x + 20, y + 3), name, _INK, font)
        x += 40 + round(pen.textlength(name, font))
    with new_file(path) as partial:
        picture.save(partial, format="PNG", optimize=True)
    return path


def _tile(frame: NDArray[np.uint8], labels: Labels, count: int) -> Image.Image:
    size = frame.shape[1], frame.shape[0]
    whole = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    # In grey, so that a colour is that of a class and of nothing else.
    grey = np.asarray(Image.fromarray(frame).convert("L").convert("RGB"))
    drawn = Image.fromarray(draw_classes(grey, whole, count))
    return drawn.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)

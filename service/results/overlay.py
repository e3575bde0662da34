"""What the model sees as sounding, drawn on the frames: an overlay video with its sound, and a contact sheet.

A mask is filled with a colour at half strength and outlined by a white line with a dark rim, so that it shows on any
background. Videos are H.264 and AAC in MP4 at 25 frames a second, since some players stumble over one frame a second;
a clip of more than three frames a second keeps its own rate, or two or three times that.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.errors import BadInput
from auralsam2_client.media.reading import MAX_FPS, MIN_FPS
from auralsam2_client.media.stills.class_colours import draw_classes
from auralsam2_client.new_file import new_file
from service.results.caption import add_caption, strip_height_px
from service.results.held_pictures import HELD_FROM
from service.results.overlay_sound import OverlaySound, SoundBetween
from service.results.video import write_with_sound

COLOUR = (255, 45, 120)
ALPHA = 0.45
VIDEO_RATE = 25
# At ten pictures a second no player stumbles.
LEAST_RATE = 10
# Decoders of H.264 in players end here; larger frames are scaled down, in the overlay alone.
MAX_SIDE_PX = 4096
_SHEET_GAP_PX = 8
TILE_WIDTH_PX, MAX_COLUMNS = 320, 6


Frames = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
Cover = NDArray[np.bool_] | NDArray[np.uint8]
"""[H, W]: a mask, or labels of classes, 0 outside and each in the colour of its class."""
Masks = Cover | Sequence[Cover]


def draw_mask(
    frame: NDArray[np.uint8],
    mask: Cover,
    *,
    colour: tuple[int, int, int] = COLOUR,
    alpha: float = ALPHA,
) -> NDArray[np.uint8]:
    """Draw a mask on a copy of a frame.

    Args:
        frame: [H, W, 3] uint8 RGB.
        mask: [H, W] bool; or uint8 labels of classes, which have colours of their own in place of `colour`.
        alpha: strength of the colour inside the mask, 0 to 1.
    Returns: [H, W, 3] uint8, newly allocated.
    Raises: BadInput when the shapes differ.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or mask.shape != frame.shape[:2]:
        raise BadInput(f"The frame is {list(frame.shape)}, its mask {list(mask.shape)}; must be [H, W, 3] and [H, W].")
    inside = mask > 0
    if mask.dtype == np.uint8:
        labels = mask.astype(np.uint8, copy=False)
        frame, alpha = draw_classes(frame, labels, int(labels.max(initial=0))), 0.0
    # 2 px up to 720 lines, in step with the picture beyond.
    line_px = max(2, round(min(mask.shape) / 360))
    place = rows, columns = _around(inside, line_px + 1)
    near = np.ascontiguousarray(inside[place], np.bool_)
    inner, outer = _grow(~near, line_px) & near, _grow(near, max(1, line_px // 2)) & ~near
    drawn = frame.copy()
    picture = Image.fromarray(np.ascontiguousarray(frame[rows, columns]))
    tinted, darker = picture.point(_tint(colour, alpha)), picture.point([shade // 3 for shade in range(256)] * 3)
    for each, where in ((tinted, near), (darker, outer), ("white", inner)):
        picture.paste(each, (0, 0, *picture.size), Image.fromarray(where))
    drawn[rows, columns] = np.asarray(picture)
    return drawn


@cache
def _tint(colour: tuple[int, int, int], alpha: float) -> list[int]:
    shades = (np.rint(np.arange(256) * (1 - alpha) + alpha * np.float64(tint)).astype(np.uint8) for tint in colour)
    return [int(shade) for channel in shades for shade in channel]


def _around(mask: NDArray[np.bool_], num_px: int) -> tuple[slice, slice]:
    """The part of a picture that a mask is in, with so many pixels around it."""
    places = []
    for axis in (1, 0):
        inside = np.flatnonzero(mask.any(axis=axis))
        first, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        places.append(slice(max(0, first - num_px), end + num_px))
    return places[0], places[1]


def write_overlay(
    path: str | Path,
    frames: Frames,
    masks: Masks,
    captions: Sequence[str] | None,
    fps: float,
    sound: NDArray[np.float32] | None,
    *,
    sound_start_s: float = 0.0,
    pixel_aspect: float = 1.0,
) -> Path:
    """Write the frames with their masks as a video, each held for 1 / fps seconds, with the sound beneath.

    Args:
        path: an MP4 file; replaced if it is there.
        frames: [N, H, W, 3] uint8 RGB, or N of [H, W, 3]. Beyond 4096 px a side they are scaled down.
        masks: [N, H, W] bool, or N of [H, W]; or uint8 labels of classes.
        captions: N lines for the strip below the pictures, see `caption_of`; None: no strip.
        fps: frames a second of the clip, 1/3600 to 120.
        sound: [S, 2] float32 at 16 kHz, or None for a video without sound. What is longer than the frames is left out.
        sound_start_s: where in the sound the first frame is: `Media.times_s[0]`.
        pixel_aspect: width by height of a pixel as it is shown; others than 1 are shown by more pixels.
    Returns: the path.
    Raises: BadInput when counts or shapes differ or the file cannot be written; ConfigError without libx264.
    """
    lines: Sequence[str | None] = [None] * len(frames) if captions is None else captions
    if not (len(frames) == len(masks) == len(lines) > 0) or not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(
            f"{len(frames)} frames, {len(masks)} masks, {len(lines)} captions, fps = {fps}; must be as many of "
            f"each, at least 1, and fps 1/3600 to {MAX_FPS:g}."
        )
    shown = zip(frames, masks, lines, strict=True)
    under = None if sound is None else lambda first, end: sound[first:end]
    return write_shown(path, shown, fps, under, sound_start_s=sound_start_s, pixel_aspect=pixel_aspect)


def write_shown(
    path: str | Path,
    shown: Iterable[tuple[NDArray[np.uint8], Cover, str | None]],
    fps: float,
    sound: SoundBetween | None,
    *,
    sound_start_s: float = 0.0,
    pixel_aspect: float = 1.0,
) -> Path:
    """Write as `write_overlay` does, (frame, mask, caption) by one after the other as they come.

    Args:
        sound: gives the sound at 16 kHz, second by second; None for a video without.
    """
    rate, lasts = _video_rate(fps)

    def held() -> Iterator[tuple[NDArray[np.uint8], int]]:
        for index, (frame, mask, caption) in enumerate(shown):
            # Summed before rounding: 3 frames a second are held for 8, 9 and 8 frames, and the sound stays in step.
            count = round((index + 1) * rate * lasts) - round(index * rate * lasts)
            size = _shown_size(frame, pixel_aspect, captioned=caption is not None)
            drawn = draw_mask(*_resized(frame, mask, *size))
            yield drawn if caption is None else add_caption(drawn, caption), count

    under = None if sound is None else OverlaySound(sound, SAMPLE_RATE, sound_start_s)
    return write_with_sound(Path(path), held(), rate, under)


def _video_rate(fps: float) -> tuple[Fraction, Fraction]:
    """Frames a second of the video, and for how many seconds it shows each frame of a clip at `fps`."""
    lasts = 1 / Fraction(fps).limit_denominator(1001) if fps > 1 else Fraction(1 / fps).limit_denominator(1001)
    if VIDEO_RATE * lasts >= HELD_FROM:
        return Fraction(VIDEO_RATE), lasts
    return math.ceil(LEAST_RATE * lasts) / lasts, lasts


def sheet_frames(num_frames: int, max_columns: int = MAX_COLUMNS) -> list[int]:
    """Choose the frames that the contact sheet shows of so many."""
    places = np.linspace(0, num_frames - 1, min(max_columns, num_frames))
    return [int(index) for index in np.unique(np.rint(places).astype(int))]


def sheet_tile(
    frame: NDArray[np.uint8],
    mask: Cover,
    tile_width_px: int = TILE_WIDTH_PX,
    *,
    pixel_aspect: float = 1.0,
) -> tuple[NDArray[np.uint8], Cover]:
    """Return a frame and its mask as the contact sheet shows them; `contact_sheet` takes them in place of the large."""
    return _resized(frame, mask, *_tile_size(frame, tile_width_px, pixel_aspect))


def _tile_size(frame: NDArray[np.uint8], width: int, pixel_aspect: float) -> tuple[int, int]:
    shown_width, shown_height = _shown_size(frame, pixel_aspect)
    return width, max(1, round(width * shown_height / shown_width))


def contact_sheet(
    path: str | Path,
    frames: Frames,
    masks: Masks,
    captions: Sequence[str] | None = None,
    *,
    tile_width_px: int = TILE_WIDTH_PX,
    max_columns: int = MAX_COLUMNS,
    pixel_aspect: float = 1.0,
) -> Path:
    """Write a PNG with a row of frames above a row of the same frames with their masks.

    Args:
        path: a PNG file; replaced if it is there.
        frames, masks, captions: as in `write_overlay`; captions stand below the lower row.
        tile_width_px: width of one picture.
        max_columns: of more frames, this many are taken at even distances, the first and the last among them.
        pixel_aspect: width by height of a pixel as it is shown.
    Returns: the path.
    Raises: BadInput when counts or shapes differ or the file cannot be written.
    """
    if not len(frames) == len(masks) > 0 or (captions is not None and len(captions) != len(frames)):
        named = "" if captions is None else f", {len(captions)} captions"
        raise BadInput(f"{len(frames)} frames, {len(masks)} masks{named}; must be as many of each, at least 1.")
    chosen = sheet_frames(len(frames), max_columns)
    width, height = _tile_size(frames[0], tile_width_px, pixel_aspect)
    strip = 0 if captions is None else strip_height_px(height, width)
    # The gaps are transparent: the sheet is read on light pages and on dark ones.
    size = len(chosen) * (width + _SHEET_GAP_PX) - _SHEET_GAP_PX, 2 * height + _SHEET_GAP_PX + strip
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    for column, index in enumerate(chosen):
        small, mask = _resized(frames[index], masks[index], width, height)
        drawn = draw_mask(small, mask)
        overlay = drawn if captions is None else add_caption(drawn, captions[index])
        left = column * (width + _SHEET_GAP_PX)
        sheet.paste(Image.fromarray(small), (left, 0))
        sheet.paste(Image.fromarray(overlay), (left, height + _SHEET_GAP_PX))
    try:
        with new_file(Path(path)) as partial:
            sheet.save(partial, format="PNG", optimize=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Choose another place for the sheet.") from error
    return Path(path)


def _shown_size(frame: NDArray[np.uint8], pixel_aspect: float, *, captioned: bool = False) -> tuple[int, int]:
    """Width and height at which a frame [H, W, 3] is shown by square pixels, as large as a video may be."""
    height, width = frame.shape[0] * max(1.0, 1 / pixel_aspect), frame.shape[1] * max(1.0, pixel_aspect)
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    if captioned:
        # Smaller still where the strip below needs room: it becomes no higher with that.
        room = MAX_SIDE_PX - strip_height_px(round(height * scale), round(width * scale))
        scale = min(scale, room / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(frame: NDArray[np.uint8], mask: Cover, width: int, height: int) -> tuple[NDArray[np.uint8], Cover]:
    """A frame and its mask at another size."""
    if frame.shape[:2] == (height, width):
        return frame, mask
    small = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
    if mask.dtype == np.uint8:
        labels = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(small), np.asarray(labels)
    cover = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    return np.asarray(small), np.asarray(cover.resize((width, height), Image.Resampling.BILINEAR)) > 127


def _grow(mask: NDArray[np.bool_], num_px: int) -> NDArray[np.bool_]:
    """Dilate by num_px, alternately to 4 and to 8 neighbours, which makes corners nearly round."""
    grown = mask
    for step in range(num_px):
        rows = grown.copy()
        rows[1:] |= grown[:-1]
        rows[:-1] |= grown[1:]
        source = rows if step % 2 else grown
        columns = rows.copy()
        columns[:, 1:] |= source[:, :-1]
        columns[:, :-1] |= source[:, 1:]
        grown = columns
    return grown

"""What the model sees as sounding, drawn on the frames: an overlay video with its sound, and a contact sheet.

A mask is filled with a colour at half strength and outlined by a white line with a dark rim, so that it shows on any
background. Videos are H.264 and AAC in MP4 at 25 frames a second: some players stumble over one frame a second.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.errors import BadInput
from auralsam2_client.media.reading import MAX_FPS, MIN_FPS
from auralsam2_client.new_file import new_file
from service.results.overlay_sound import OverlaySound, SoundBetween
from service.results.video import write_with_sound

COLOUR = (255, 45, 120)
ALPHA = 0.45
VIDEO_RATE = 25
# Decoders of H.264 in players end here; larger frames are scaled down, in the overlay alone.
MAX_SIDE_PX = 4096
_SHEET_GAP_PX = 8
TILE_WIDTH_PX, MAX_COLUMNS = 320, 6


Frames = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]


def caption_of(time_s: float, object_score: float) -> str:
    """Write the caption of a frame: its time, and the object score (a logit; above 0 something sounds)."""
    return f"{time_s:.1f} s   object {object_score:+.1f}"


def draw_mask(
    frame: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    caption: str = "",
    *,
    colour: tuple[int, int, int] = COLOUR,
    alpha: float = ALPHA,
) -> NDArray[np.uint8]:
    """Draw a mask and a small caption on a copy of a frame.

    Args:
        frame: [H, W, 3] uint8 RGB.
        mask: [H, W] bool.
        caption: one line for the lower left corner; none if empty.
        alpha: strength of the colour inside the mask, 0 to 1.
    Returns: [H, W, 3] uint8, newly allocated.
    Raises: BadInput when the shapes differ.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or mask.shape != frame.shape[:2]:
        raise BadInput(f"The frame is {list(frame.shape)}, its mask {list(mask.shape)}; must be [H, W, 3] and [H, W].")
    # 2 px up to 720 lines, in step with the picture beyond.
    line_px = max(2, round(min(mask.shape) / 360))
    mask = np.ascontiguousarray(mask, np.bool_)
    inner, outer = np.zeros_like(mask), np.zeros_like(mask)
    place = _around(mask, line_px + 1)
    near = mask[place]
    inner[place], outer[place] = _grow(~near, line_px) & near, _grow(near, max(1, line_px // 2)) & ~near
    picture = Image.fromarray(frame)
    tinted, darker = picture.point(_tint(colour, alpha)), picture.point([shade // 3 for shade in range(256)] * 3)
    for each, where in ((tinted, mask), (darker, outer), ("white", inner)):
        picture.paste(each, (0, 0, *picture.size), Image.fromarray(where))
    if caption:
        _write_caption(picture, caption)
    return np.array(picture)


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
        masks: [N, H, W] bool, or N of [H, W].
        captions: N lines, or None; see `caption_of`.
        fps: frames a second of the clip, 1/3600 to 120.
        sound: [S, 2] float32 at 16 kHz, or None for a video without sound. What is longer than the frames is left out.
        sound_start_s: where in the sound the first frame is: `Media.times_s[0]`.
        pixel_aspect: width by height of a pixel as it is shown; others than 1 are shown by more pixels.
    Returns: the path.
    Raises: BadInput when counts or shapes differ or the file cannot be written; ConfigError without libx264.
    """
    captions = [""] * len(frames) if captions is None else captions
    if not (len(frames) == len(masks) == len(captions) > 0) or not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(
            f"{len(frames)} frames, {len(masks)} masks, {len(captions)} captions, fps = {fps}; must be as many of "
            f"each, at least 1, and fps 1/3600 to {MAX_FPS:g}."
        )
    shown = zip(frames, masks, captions, strict=True)
    under = None if sound is None else lambda first, end: sound[first:end]
    return write_shown(path, shown, fps, under, sound_start_s=sound_start_s, pixel_aspect=pixel_aspect)


def write_shown(
    path: str | Path,
    shown: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_], str]],
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
    rate = Fraction(fps).limit_denominator(1001) if fps > VIDEO_RATE else Fraction(VIDEO_RATE)
    # Summed before rounding: 3 frames a second are held for 8, 9 and 8 frames, and the sound stays in step.
    lasts = 1 / Fraction(fps).limit_denominator(1001) if fps > 1 else Fraction(1 / fps).limit_denominator(1001)

    def held() -> Iterator[tuple[NDArray[np.uint8], int]]:
        for index, (frame, mask, caption) in enumerate(shown):
            count = round((index + 1) * rate * lasts) - round(index * rate * lasts)
            yield draw_mask(*_resized(frame, mask, *_shown_size(frame, pixel_aspect)), caption), count

    under = None if sound is None else OverlaySound(sound, SAMPLE_RATE, sound_start_s)
    return write_with_sound(Path(path), held(), rate, under)


def sheet_frames(num_frames: int, max_columns: int = MAX_COLUMNS) -> list[int]:
    """Choose the frames that the contact sheet shows of so many."""
    places = np.linspace(0, num_frames - 1, min(max_columns, num_frames))
    return [int(index) for index in np.unique(np.rint(places).astype(int))]


def sheet_tile(
    frame: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    tile_width_px: int = TILE_WIDTH_PX,
    *,
    pixel_aspect: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
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
        frames, masks, captions: as in `write_overlay`.
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
    # The gaps are transparent: the sheet is read on light pages and on dark ones.
    sheet = Image.new(
        "RGBA", (len(chosen) * (width + _SHEET_GAP_PX) - _SHEET_GAP_PX, 2 * height + _SHEET_GAP_PX), (0, 0, 0, 0)
    )
    for column, index in enumerate(chosen):
        small, mask = _resized(frames[index], masks[index], width, height)
        overlay = draw_mask(small, mask, captions[index] if captions else "")
        left = column * (width + _SHEET_GAP_PX)
        sheet.paste(Image.fromarray(small), (left, 0))
        sheet.paste(Image.fromarray(overlay), (left, height + _SHEET_GAP_PX))
    try:
        with new_file(Path(path)) as partial:
            sheet.save(partial, format="PNG", optimize=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Choose another place for the sheet.") from error
    return Path(path)


def _shown_size(frame: NDArray[np.uint8], pixel_aspect: float) -> tuple[int, int]:
    """Width and height at which a frame [H, W, 3] is shown by square pixels, as large as a video may be."""
    height, width = frame.shape[0] * max(1.0, 1 / pixel_aspect), frame.shape[1] * max(1.0, pixel_aspect)
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(
    frame: NDArray[np.uint8], mask: NDArray[np.bool_], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A frame and its mask at another size."""
    if frame.shape[:2] == (height, width):
        return frame, mask
    small = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
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


def _write_caption(picture: Image.Image, caption: str) -> None:
    size_px = max(11, round(picture.height / 24))
    font = _font(size_px)
    pad, margin = size_px // 2, size_px // 2
    left, top, right, bottom = font.getbbox(caption)
    box_height = round(1.2 * size_px) + pad
    # The strip that the caption is in, from its own upper edge on.
    above = max(0, picture.height - margin - box_height)
    y = picture.height - margin - box_height - above
    strip = picture.crop((0, above, picture.width, picture.height)).convert("RGBA")
    layer = Image.new("RGBA", strip.size)
    draw = ImageDraw.Draw(layer)
    draw.rounded_rectangle(
        (margin, y, margin + right - left + 2 * pad, y + box_height), radius=size_px // 3, fill=(0, 0, 0, 150)
    )
    draw.text(
        (margin + pad - left, y + (box_height - (bottom - top)) / 2 - top), caption, font=font, fill=(255, 255, 255)
    )
    picture.paste(Image.alpha_composite(strip, layer).convert("RGB"), (0, above))


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)

"""What the model sees as sounding, drawn on the frames: an overlay video with its sound, and a contact sheet.

A mask is filled with a colour at half strength and outlined by a white line with a dark rim, so that it shows on any
background. Videos are H.264 and AAC in MP4 at 25 frames a second: some players stumble over one frame a second.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.media.reading import MAX_FPS, MIN_FPS
from auralsam2_client.new_file import new_file

COLOUR = (255, 45, 120)
ALPHA = 0.45
VIDEO_RATE = 25
# Players and their sound cards expect 48 kHz; 16 kHz AAC is refused by some.
AAC_RATE = 48_000
_BT709 = 1
# Decoders of H.264 in players end here; larger frames are scaled down, in the overlay alone.
MAX_SIDE_PX = 4096
# Above 4K the encoder looks ahead fewer frames, each of which it holds in several sizes.
_LARGE_PX = 3840 * 2160
_LARGE_LOOKAHEAD = "5"
_SHEET_GAP_PX = 8


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
    mask = mask.astype(np.bool_)
    # 2 px up to 720 lines, in step with the picture beyond.
    line_px = max(2, round(min(mask.shape) / 360))
    inner, outer = _grow(~mask, line_px) & mask, _grow(mask, max(1, line_px // 2)) & ~mask
    drawn = frame.copy()
    for channel, tint in enumerate(colour):
        shades = np.rint(np.arange(256) * (1 - alpha) + alpha * np.float64(tint)).astype(np.uint8)
        drawn[..., channel][mask] = shades[frame[..., channel][mask]]
    drawn[outer] = frame[outer] // 3
    drawn[inner] = 255
    return _with_caption(drawn, caption) if caption else drawn


def write_overlay(
    path: str | Path,
    frames: Frames,
    masks: Masks,
    captions: Sequence[str] | None,
    fps: float,
    sound: NDArray[np.float32] | None,
    *,
    sound_start_s: float = 0.0,
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
    Returns: the path.
    Raises: BadInput when counts or shapes differ or the file cannot be written; ConfigError without libx264.
    """
    captions = [""] * len(frames) if captions is None else captions
    if not (len(frames) == len(masks) == len(captions) > 0) or not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(
            f"{len(frames)} frames, {len(masks)} masks, {len(captions)} captions, fps = {fps}; must be as many of "
            f"each, at least 1, and fps 1/3600 to {MAX_FPS:g}."
        )
    rate = Fraction(fps).limit_denominator(1001) if fps > VIDEO_RATE else Fraction(VIDEO_RATE)
    # Summed before rounding: 3 frames a second are held for 8, 9 and 8 frames, and the sound stays in step.
    lasts = 1 / Fraction(fps).limit_denominator(1001) if fps > 1 else Fraction(1 / fps).limit_denominator(1001)
    ends = [round((index + 1) * rate * lasts) for index in range(len(frames))]
    drawn = (
        draw_mask(*_scaled_down(frame, mask), caption)
        for frame, mask, caption in zip(frames, masks, captions, strict=True)
    )
    held = zip(drawn, np.diff([0, *ends]).tolist(), strict=True)
    if sound is not None:
        sound = sound[round(sound_start_s * SAMPLE_RATE) :]
    return write_video(path, held, rate, sound, SAMPLE_RATE)


def write_video(
    path: str | Path,
    pictures: Iterable[tuple[NDArray[np.uint8], int]],
    rate: Fraction,
    sound: NDArray[np.float32] | None,
    sound_rate: int,
) -> Path:
    """Write pictures, each with the number of frames it is held for, and sound as H.264 and AAC in MP4.

    Args:
        path: replaced when the whole file is written; the folder must exist.
        pictures: ([H, W, 3] uint8 RGB, count) one after the other, all of one size; odd sizes are padded by one pixel.
        rate: video frames a second.
        sound: [S, 2] float32 in [-1, 1] or None; cut to the length of the pictures.
        sound_rate: samples a second of the sound.
    Returns: the path.
    Raises: ConfigError when libx264 is missing; BadInput when the file cannot be written.
    """
    if "libx264" not in av.codecs_available:
        raise ConfigError(
            "This build of PyAV has no libx264, which encodes the video. Install av from PyPI: pip install av"
        )
    path = Path(path)
    if sound is not None and sound_rate != AAC_RATE:
        sound = np.clip(soxr.resample(sound, sound_rate, AAC_RATE, quality="HQ"), -1, 1) if len(sound) else None
    movable = {"movflags": "+faststart"}
    try:
        with new_file(path) as partial, av.open(str(partial), "w", format="mp4", options=movable) as output:
            _encode(output, pictures, rate, sound)
    except (av.FFmpegError, OSError) as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Choose another place for the video.") from error
    return path


def contact_sheet(
    path: str | Path,
    frames: Frames,
    masks: Masks,
    captions: Sequence[str] | None = None,
    *,
    tile_width_px: int = 320,
    max_columns: int = 6,
) -> Path:
    """Write a PNG with a row of frames above a row of the same frames with their masks.

    Args:
        path: a PNG file; replaced if it is there.
        frames, masks, captions: as in `write_overlay`.
        tile_width_px: width of one picture.
        max_columns: of more frames, this many are taken at even distances, the first and the last among them.
    Returns: the path.
    Raises: BadInput when counts or shapes differ or the file cannot be written.
    """
    if not len(frames) == len(masks) > 0 or (captions is not None and len(captions) != len(frames)):
        named = "" if captions is None else f", {len(captions)} captions"
        raise BadInput(f"{len(frames)} frames, {len(masks)} masks{named}; must be as many of each, at least 1.")
    chosen = np.unique(np.rint(np.linspace(0, len(frames) - 1, min(max_columns, len(frames)))).astype(int)).tolist()
    rows, columns = frames[0].shape[:2]
    width, height = tile_width_px, max(1, round(tile_width_px * rows / columns))
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


def _scaled_down(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rows, columns = frame.shape[:2]
    scale = MAX_SIDE_PX / max(rows, columns)
    if scale >= 1:
        return frame, mask
    return _resized(frame, mask, max(1, round(scale * columns)), max(1, round(scale * rows)))


def _resized(
    frame: NDArray[np.uint8], mask: NDArray[np.bool_], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
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


def _with_caption(frame: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    image = Image.fromarray(frame).convert("RGBA")
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    size_px = max(11, round(image.height / 24))
    font = ImageFont.load_default(size_px)
    pad, margin = size_px // 2, size_px // 2
    left, top, right, bottom = draw.textbbox((0, 0), caption, font=font)
    box_height = round(1.2 * size_px) + pad
    y = image.height - margin - box_height
    draw.rounded_rectangle(
        (margin, y, margin + right - left + 2 * pad, y + box_height), radius=size_px // 3, fill=(0, 0, 0, 150)
    )
    draw.text(
        (margin + pad - left, y + (box_height - (bottom - top)) / 2 - top), caption, font=font, fill=(255, 255, 255)
    )
    return np.array(Image.alpha_composite(image, layer).convert("RGB"))


def _encode(
    output: OutputContainer,
    pictures: Iterable[tuple[NDArray[np.uint8], int]],
    rate: Fraction,
    sound: NDArray[np.float32] | None,
) -> None:
    # One thread: its output does not depend on the machine's number of cores.
    video: VideoStream = output.add_stream(
        "libx264", rate=rate, options={"crf": "20", "preset": "fast", "threads": "1"}
    )
    audio: AudioStream | None = None
    if sound is not None:
        audio = output.add_stream("aac", rate=AAC_RATE, layout="stereo", bit_rate=128_000)
    num_frames = num_samples = 0
    for picture, count in pictures:
        height, width = picture.shape[:2]
        if num_frames == 0:
            if height * width > _LARGE_PX:
                video.options = {**video.options, "rc-lookahead": _LARGE_LOOKAHEAD}
            video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            video.color_primaries = video.color_trc = video.colorspace = video.color_range = _BT709
        padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        for _ in repeat(None, count):
            frame.pts, frame.time_base = num_frames, 1 / rate
            output.mux(video.encode(frame))
            num_frames += 1
        if audio is not None and sound is not None:
            # In step with the video, so that the muxer need not hold one of the two back.
            end = min(len(sound), round(num_frames / rate * AAC_RATE))
            _encode_sound(output, audio, sound[num_samples:end], num_samples)
            num_samples = end
    output.mux(video.encode(None))
    if audio is not None:
        output.mux(audio.encode(None))


def _encode_sound(output: OutputContainer, audio: AudioStream, sound: NDArray[np.float32], first: int) -> None:
    if len(sound) == 0:
        return
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T, np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, first, Fraction(1, AAC_RATE)
    output.mux(audio.encode(frame))

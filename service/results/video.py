"""Pictures and sound as H.264 and AAC in MP4."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.new_file import new_file
from service.results.overlay_sound import AAC_RATE, OverlaySound

_BT709 = 1
# Above 4K the encoder looks ahead fewer frames, each of which it holds in several sizes.
_LARGE_PX = 3840 * 2160
_LARGE_LOOKAHEAD = "5"


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
    under = None if sound is None else OverlaySound(lambda first, end: sound[first:end], sound_rate)
    return write_with_sound(Path(path), pictures, rate, under)


def write_with_sound(
    path: Path, pictures: Iterable[tuple[NDArray[np.uint8], int]], rate: Fraction, sound: OverlaySound | None
) -> Path:
    """Write as `write_video` does, with sound that comes with the pictures."""
    if "libx264" not in av.codecs_available:
        raise ConfigError(
            "This build of PyAV has no libx264, which encodes the video. Install av from PyPI: pip install av"
        )
    movable = {"movflags": "+faststart"}
    try:
        with new_file(path) as partial, av.open(str(partial), "w", format="mp4", options=movable) as output:
            _encode(output, pictures, rate, sound)
    except (av.FFmpegError, OSError) as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Choose another place for the video.") from error
    return path


def _encode(
    output: OutputContainer,
    pictures: Iterable[tuple[NDArray[np.uint8], int]],
    rate: Fraction,
    sound: OverlaySound | None,
) -> None:
    # One thread: its output does not depend on the machine's number of cores.
    video: VideoStream = output.add_stream(
        "libx264", rate=rate, options={"crf": "20", "preset": "fast", "threads": "1"}
    )
    audio: AudioStream | None = None
    if sound is not None and not sound.is_silent():
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
            samples = sound.take(round(num_frames / rate * AAC_RATE) - num_samples)
            _encode_sound(output, audio, samples, num_samples)
            num_samples += len(samples)
    output.mux(video.encode(None))
    if audio is not None:
        output.mux(audio.encode(None))


def _encode_sound(output: OutputContainer, audio: AudioStream, sound: NDArray[np.float32], first: int) -> None:
    if len(sound) == 0:
        return
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T, np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, first, Fraction(1, AAC_RATE)
    output.mux(audio.encode(frame))

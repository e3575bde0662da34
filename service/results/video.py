"""Pictures and sound as H.264 and AAC in MP4."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.new_file import new_file
from service.results import held_pictures
from service.results.held_pictures import HELD_FROM, HeldPictures
from service.results.overlay_sound import AAC_RATE, OverlaySound

_BT709 = 1
# Above 4K the encoder looks ahead fewer frames, each of which it holds in several sizes.
_LARGE_PX = 3840 * 2160
_LARGE_LOOKAHEAD = "5"
# `veryfast` at 18 is within a decibel of `fast` at 20, in 1.6 to 2.5 times less time and at most a quarter more bytes.
# One thread: its output does not depend on the machine's number of cores.
_OPTIONS = {"crf": "18", "preset": "veryfast", "threads": "1"}


def write_video(
    path: str | Path,
    pictures: Iterable[tuple[NDArray[np.uint8], int]],
    rate: Fraction,
    sound: NDArray[np.float32] | None,
    sound_rate: int,
    *,
    comment: str = "",
) -> Path:
    """Write pictures, each with the number of frames it is held for, and sound as H.264 and AAC in MP4.

    Args:
        path: replaced when the whole file is written; the folder must exist.
        pictures: ([H, W, 3] uint8 RGB, count) one after the other, all of one size; odd sizes are padded by one pixel.
        rate: video frames a second.
        sound: [S, 2] float32 in [-1, 1] or None; cut to the length of the pictures.
        sound_rate: samples a second of the sound.
        comment: for the file's header.
    Returns: the path.
    Raises: ConfigError when libx264 is missing; BadInput when the file cannot be written.
    """
    under = None if sound is None else OverlaySound(lambda first, end: sound[first:end], sound_rate)
    return write_with_sound(Path(path), pictures, rate, under, comment)


def write_with_sound(
    path: Path,
    pictures: Iterable[tuple[NDArray[np.uint8], int]],
    rate: Fraction,
    sound: OverlaySound | None,
    comment: str = "",
) -> Path:
    """Write as `write_video` does, with sound that comes with the pictures."""
    if "libx264" not in av.codecs_available:
        raise ConfigError(
            "This build of PyAV has no libx264, which encodes the video. Install av from PyPI: pip install av"
        )
    movable = {"movflags": "+faststart"}
    try:
        with new_file(path) as partial, av.open(str(partial), "w", format="mp4", options=movable) as output:
            if comment:
                output.metadata["comment"] = comment
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
    track = _Track(output, rate)
    audio: AudioStream | None = None
    num_samples = 0
    for picture, count in pictures:
        begins = track.num_frames == 0
        if begins:
            track.open(*picture.shape[:2], held=count >= HELD_FROM)
            if sound is not None and not sound.is_silent():
                audio = output.add_stream("aac", rate=AAC_RATE, layout="stereo", bit_rate=128_000)
        track.add(picture, count)
        del picture
        if audio is not None and sound is not None:
            # In step with the video, so that the muxer need not hold one of the two back.
            samples = sound.take(round(track.num_frames / rate * AAC_RATE) - num_samples)
            _encode_sound(output, audio, samples, num_samples)
            num_samples += len(samples)
    track.close()
    if audio is not None:
        output.mux(audio.encode(None))


class _Track:
    """The pictures of a video that is written."""

    def __init__(self, output: OutputContainer, rate: Fraction) -> None:
        self.num_frames = 0
        self._output, self._rate = output, rate
        self._video: VideoStream | None = None
        self._held: HeldPictures | None = None
        self._is_held = False
        self._units: list[bytes] = []

    def open(self, height: int, width: int, *, held: bool) -> None:
        """Choose the encoder for pictures of that size, by whether each is held."""
        options = dict(held_pictures.OPTIONS if held else _OPTIONS)
        if height * width > _LARGE_PX and not held:
            options["rc-lookahead"] = _LARGE_LOOKAHEAD
        video: VideoStream = self._output.add_stream("libx264", rate=self._rate, options=options)
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        video.color_primaries = video.color_trc = video.colorspace = video.color_range = _BT709
        self._video, self._is_held = video, held

    def add(self, picture: NDArray[np.uint8], count: int) -> None:
        """Encode a picture [H, W, 3] for so many frames."""
        assert self._video is not None, "opened with the first"
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        for index in range(count):
            if index > 0 and self._held is not None:
                self._output.mux(self._packet(self._unit(index)))
            else:
                frame.pts, frame.time_base = self.num_frames, 1 / self._rate
                if self._is_held and index == 0:
                    frame.pict_type = PictureType.I
                self._output.mux(self._video.encode(frame))
                if self._is_held and self.num_frames == 0:
                    self._held = HeldPictures.of_stream(self._video.codec_context.extradata or b"")
            self.num_frames += 1

    def close(self) -> None:
        """Write what the encoder holds back."""
        if self._video is not None:
            self._output.mux(self._video.encode(None))

    def _unit(self, index: int) -> bytes:
        """The frame of that number behind a picture's first, the same for every picture."""
        assert self._held is not None, "the encoder's stream is of that kind"
        if index > len(self._units):
            self._units.append(self._held.frame(index))
        return self._units[index - 1]

    def _packet(self, unit: bytes) -> "Packet[Stream]":
        assert self._video is not None, "opened with the first"
        packet: Packet[Stream] = av.Packet(unit)
        packet.time_base = 1 / self._rate
        packet.pts = packet.dts = self.num_frames
        packet.duration = 1
        packet.stream = self._video
        return packet


def _encode_sound(output: OutputContainer, audio: AudioStream, sound: NDArray[np.float32], first: int) -> None:
    if len(sound) == 0:
        return
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T, np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, first, Fraction(1, AAC_RATE)
    output.mux(audio.encode(frame))

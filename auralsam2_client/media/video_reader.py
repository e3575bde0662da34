"""Frames out of a video file, in order of display, each with its time; nothing is kept of them."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.pictures import check_size

# Containers hold streams; playlists and scripts (hls, dash, concat, sdp) name other files or addresses: left out.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,wtv,rm,gif,ivf,obu,h264,hevc,m4v,mjpeg,"
    "yuv4mpegpipe,mp3,wav,flac,aac"
)
_OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


def open_container(path: Path) -> InputContainer:
    """Open a local media file, of a container that holds its streams itself. Raises BadInput for any other file."""
    try:
        # The explicit protocol keeps a file named like an address from being taken for one.
        return av.open(f"file:{path}", "r", container_options=_OPEN_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be opened as a video: {reason(error)}. It is another kind of file, or incomplete (an MP4 "
            "has its index at the end). Copy it again, or convert it: ffmpeg -i FILE out.mp4"
        ) from error


def reason(error: BaseException) -> str:
    """Quote what a library says is wrong, without its numbers."""
    return getattr(error, "strerror", None) or str(error)


def _declared_s(stream: Stream) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


class VideoReader:
    """Decodes the frames of a file's video in order of display, each with its time in seconds since the first.

    A decoding error ends the frames and is kept as `damage`; whether enough was read is the caller's question.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        # The cover picture of a music file is a video stream of one frame.
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise BadInput(f"{path} has no video stream; one is needed. Give a video file, or a folder of frames.")
        self.stream: VideoStream = streams[0]
        if self.stream.codec_context is None:
            raise BadInput(f"{path}: there is no decoder for its video here. Convert it: ffmpeg -i FILE out.mp4")
        self.stream.thread_type = "AUTO"
        self.path = path
        self.container = container
        self.size = (self.stream.width, self.stream.height)
        # A raw stream may not tell its size here; then the first frame does.
        if all(self.size):
            check_size(path.name, *self.size)
        self.origin_s: float | None = None
        self.end_s = 0.0
        self.frame_s = float(1 / (self.stream.average_rate or 25))
        self.num_frames = 0
        self.damage: BaseException | None = None
        self.ended = False
        self._last_packet_s = 0.0

    @property
    def declared_s(self) -> float | None:
        """Duration as the video stream declares it, else as the container does for all streams, else None."""
        return _declared_s(self.stream) or self._container_s() or None

    @property
    def read_s(self) -> float:
        """How far the file could be read, on the clock of `declared_s`."""
        if _declared_s(self.stream):
            return self.end_s
        # The container's duration is that of the longest stream, which need not be the video.
        return max(self.end_s, self._last_packet_s - (self.container.start_time or 0) / av.time_base)

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return self.end_s if self.ended else self.declared_s or self.end_s

    def _container_s(self) -> float:
        # Matroska counts its duration from its clock's zero, all others from the first packet.
        starts_late = "matroska" in self.container.format.name
        late = (self.container.start_time or 0) if starts_late else 0
        return ((self.container.duration or late) - late) / av.time_base

    def seek(self, time_s: float) -> bool:
        """Move to a key frame before time_s. False where the container cannot; it is of no more use then."""
        tick_s = self.stream.time_base
        if next(self.frames(), None) is None or self.origin_s is None or tick_s is None:
            return False
        try:
            self.container.seek(int((self.origin_s + time_s) / tick_s), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def frames(self) -> Iterator[tuple[VideoFrame, float]]:
        """Yield each frame with its time. Raises BadInput when the size changes or is too large."""
        streams = [s for s in self.container.streams if s.type in ("video", "audio")]
        try:
            for packet in self.container.demux(*streams):
                if packet.pts is not None and packet.time_base is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._last_packet_s = max(self._last_packet_s, float(end))
                if packet.stream.index == self.stream.index:
                    for frame in packet.decode():
                        if isinstance(frame, VideoFrame):
                            yield frame, self._time(frame)
            self.ended = True
        except av.FFmpegError as error:
            self.damage = error

    def _time(self, frame: VideoFrame) -> float:
        at_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        if self.origin_s is None:
            self.origin_s = at_s or 0.0
        time_s = self.end_s if at_s is None else at_s - self.origin_s
        size = (frame.width, frame.height)
        if not all(self.size):
            check_size(self.path.name, *size)
            self.size = size
        if size != self.size:
            raise BadInput(
                f"{self.path}: the frame at {time_s:.2f} s is {size[0]} x {size[1]} px, those before are "
                f"{self.size[0]} x {self.size[1]} px; one size is needed. Convert it: ffmpeg -i FILE out.mp4"
            )
        if frame.duration and frame.time_base:
            self.frame_s = float(frame.duration * frame.time_base)
        self.num_frames += 1
        # Damaged timestamps can run backwards; the end of the video cannot.
        self.end_s = max(self.end_s, time_s + self.frame_s)
        return time_s


def to_rgb(frame: VideoFrame, path: Path) -> NDArray[np.uint8]:
    """Turn a decoded frame as the file asks, into [H, W, 3] uint8. Raises BadInput for pixels that are no picture."""
    try:
        rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        raise BadInput(
            f"{path}: its pixels ({frame.format.name}) cannot be read as RGB: {reason(error)}. Convert it."
        ) from error
    # Phones store the picture as the sensor sees it and note the turn; the angle is counter-clockwise, as rot90's is.
    return np.rot90(rgb, round(frame.rotation / 90)) if frame.rotation else rgb

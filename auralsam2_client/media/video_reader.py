"""Frames out of a video file, in order of display, each with its time; nothing is kept of them."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.display import Colour, Orientation, colour_of, orientation_of
from auralsam2_client.media.containers.packets import PacketReader, may_leap, reason
from auralsam2_client.media.containers.tracks import video_track
from auralsam2_client.media.stills.pictures import MAX_SIDE_PX, check_size

# Some streams never have a whole picture: beyond so many, what the decoder makes is shown.
_MAX_MADE_UP = 300
# 720p in one thread is 40 frames a second that are sampled one of 25.
_ONE_THREAD_PX = 1280 * 720


def _declared_s(stream: Stream) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


class VideoReader:
    """Decodes the frames of a file's video in order of display, each with its time in seconds since the first.

    A packet that cannot be decoded is counted and left out; whether enough was read is the caller's question.

    Args:
        path: names the file in messages.
        container: opened, not read yet.
        track: the number of the video track from 1; None for the one that players take.
    Raises: BadInput as `video_track`, and for pictures beyond the largest side.
    """

    def __init__(self, path: Path, container: InputContainer, track: int | None = None) -> None:
        self.stream = video_track(container, str(path), track)
        # Threads cost a fifth more in all, and each holds pictures: they are for large ones, and two are enough.
        many = self.stream.width * self.stream.height > _ONE_THREAD_PX
        self.stream.thread_type, self.stream.thread_count = ("AUTO", 2) if many else ("NONE", 1)
        # A header inside the stream may ask for more than the file's own; the decoder then refuses before it allocates.
        self.stream.codec_context.options = {"max_pixels": str(MAX_SIDE_PX**2)}
        self.path = path
        self.container = container
        self.packet_reader = PacketReader(container)
        self.size = (self.stream.width, self.stream.height)
        # A raw stream may not tell its size here; then the first frame does.
        if all(self.size):
            check_size(path.name, *self.size)
        self.origin_s: float | None = None
        self.end_s = 0.0
        self.frame_s = float(1 / (self.stream.average_rate or 25))
        self.num_frames = 0
        self.orientation = Orientation()
        self.colour: Colour | None = None
        self.ended = False
        # Packets that could not be decoded: before the first frame, and behind it, with the time of the first.
        self.num_damaged_before = 0
        self.num_damaged = 0
        self.first_damage_s = 0.0
        self.damage: BaseException | None = None
        self._first_packet_s: float | None = None

    @property
    def declared_s(self) -> float | None:
        """Duration as the video stream declares it, else as the container does for all streams, else None."""
        return _declared_s(self.stream) or self._container_s() or None

    @property
    def missing_s(self) -> float:
        """Seconds that the file declares and does not hold, once it was read to its end."""
        short_s = self.packet_reader.missing_s(self.stream)
        # A frame may be shown for longer than its packet says.
        packets_end_s = self.packet_reader.ends_s.get(self.stream.index, 0.0)
        return short_s - max(0.0, self.end_s + (self.origin_s or 0.0) - packets_end_s)

    @property
    def num_marked(self) -> int:
        """Packets that the container marks as damaged; one at each joint of pieces is none."""
        packets = self.packet_reader
        return max(0, packets.num_marked.get(self.stream.index, 0) - len(packets.clock.joints_s))

    @property
    def lead_s(self) -> float:
        """Seconds of the video before its first whole frame."""
        if self._first_packet_s is None or self.origin_s is None:
            return 0.0
        return self.origin_s - self._first_packet_s

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return self.end_s if self.ended else self.declared_s or self.end_s

    def track_end_s(self, stream: Stream) -> float | None:
        """Return when another track ends, in seconds since the first frame, so far; None if it has no packet."""
        end_s = self.packet_reader.ends_s.get(stream.index)
        return None if end_s is None else end_s - (self.origin_s or 0.0)

    def reaches(self, time_s: float) -> bool:
        """Tell whether a picture comes at time_s or later, without decoding; the reader is of no more use then."""
        tick_s, begin = self.stream.time_base, self.stream.start_time or 0
        if tick_s is None:
            return False
        wanted = begin + int(time_s / tick_s)
        try:
            self.container.seek(wanted, stream=self.stream)
        except av.FFmpegError:
            return False
        return any(
            stream.index == self.stream.index and packet.pts is not None and packet.pts >= wanted
            for packet, stream in self.packet_reader.packets()
        )

    def _container_s(self) -> float:
        # Matroska counts its duration from its clock's zero, all others from the first packet.
        starts_late = "matroska" in self.container.format.name
        late = (self.container.start_time or 0) if starts_late else 0
        return ((self.container.duration or late) - late) / av.time_base

    def seek(self, time_s: float) -> bool:
        """Move to a key frame before time_s. False where the container cannot; it is of no more use then."""
        tick_s = self.stream.time_base
        if may_leap(self.container) or tick_s is None:
            return False
        if next(self.frames(), None) is None or self.origin_s is None:
            return False
        try:
            self.container.seek(int((self.origin_s + time_s) / tick_s), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def key_before(self, time_s: float) -> int:
        """Find the last key frame before time_s without decoding what lies between; reads the file to there.

        Returns: how many packets of the video come before it, from the first on; 0 if there is none.
        """
        found = count = 0
        for packet, stream in self.packet_reader.packets():
            if stream.index != self.stream.index or not packet.size:
                continue
            if self.origin_s is None:
                for frame in self._decoded(packet):
                    self._time(frame)
            elif packet.pts is not None and packet.time_base is not None:
                at_s = float(packet.pts * packet.time_base) - self.origin_s
                if packet.is_keyframe and at_s <= time_s:
                    found = count
                decoded = packet.pts if packet.dts is None else packet.dts
                if float(decoded * packet.time_base) - self.origin_s > time_s:
                    break
            count += 1
        return found

    def frames(self, first_packet: int = 0) -> Iterator[tuple[VideoFrame, float]]:
        """Yield each frame with its time. Raises BadInput when the size changes or is too large.

        Args:
            first_packet: packets of the video before this one are decoded only until the first frame is there.
        """
        count = num_made_up = 0
        for packet, stream in self.packet_reader.packets():
            if stream.index != self.stream.index or not packet.size:
                continue
            # What an edit list leaves out is decoded too, and not missed.
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard:
                at_s = float(packet.pts * packet.time_base)
                self._first_packet_s = at_s if self._first_packet_s is None else min(self._first_packet_s, at_s)
            if count < first_packet and self.origin_s is not None:
                count += 1
                if count == first_packet:
                    self.stream.codec_context.flush_buffers()
                continue
            count += 1
            for frame in self._decoded(packet):
                # Before the first whole picture a decoder may show what it made up.
                if frame.is_corrupt and self.num_frames == 0 and num_made_up < _MAX_MADE_UP:
                    num_made_up += 1
                    continue
                yield frame, self._time(frame)
        for frame in self._decoded(None):
            yield frame, self._time(frame)
        self.ended = True

    def _decoded(self, packet: "Packet[Stream] | None") -> list[VideoFrame]:
        """Decode one packet, or what the decoder holds back."""
        try:
            found = self.stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            if packet is not None:
                self._count_damage(packet, error)
            return []
        return [frame for frame in found if isinstance(frame, VideoFrame)]

    def _count_damage(self, packet: "Packet[Stream]", error: BaseException) -> None:
        self.damage = error
        if self.origin_s is None:
            self.num_damaged_before += 1
            return
        if self.num_damaged == 0:
            at = packet.pts if packet.pts is not None else packet.dts
            at_s = None if at is None or packet.time_base is None else float(at * packet.time_base)
            self.first_damage_s = self.end_s if at_s is None else at_s - self.origin_s
        self.num_damaged += 1

    def _time(self, frame: VideoFrame) -> float:
        # What a decoder held back to the end comes without a time base: it is the stream's.
        tick_s = frame.time_base or self.stream.time_base
        at_s = None if frame.pts is None or tick_s is None else float(frame.pts * tick_s)
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
        if self.num_frames == 0:
            self.orientation, self.colour = orientation_of(frame), colour_of(frame)
        if frame.duration and tick_s:
            self.frame_s = float(frame.duration * tick_s)
        self.num_frames += 1
        # Damaged timestamps can run backwards; the end of the video cannot.
        self.end_s = max(self.end_s, time_s + self.frame_s)
        return time_s


def to_rgb(frame: VideoFrame, path: Path, orientation: Orientation) -> NDArray[np.uint8]:
    """Turn a decoded frame as the file asks, into [H, W, 3] uint8. Raises BadInput for pixels that are no picture."""
    try:
        rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        raise BadInput(
            f"{path}: its pixels ({frame.format.name}) cannot be read as RGB: {reason(error)}. Convert it."
        ) from error
    # Phones store the picture as the sensor sees it, and note how it is to be shown.
    return orientation.apply(rgb)

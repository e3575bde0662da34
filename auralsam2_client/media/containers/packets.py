"""Media files opened, and their packets in the order of the file, on one clock, past whatever is damaged."""

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import Container, InputContainer
from av.packet import Packet
from av.stream import Stream

from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.clock import Clock

# Containers hold streams; playlists and scripts (hls, dash, concat, sdp) name other files or addresses: left out.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,wtv,rm,gif,ivf,obu,h264,hevc,m4v,mjpeg,"
    "yuv4mpegpipe,mp3,wav,flac,aac"
)
_OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
# Beside them, what holds sound alone.
_SOUND_OPTIONS = {**_OPEN_OPTIONS, "format_whitelist": _CONTAINERS + ",ac3,eac3,aiff,caf,amr,w64,au,wv,ape,tta,dts"}
_DECLARE = "mov,mp4,matroska,webm,avi,flv,asf,mxf,nut,wtv,rm,wav,w64,flac,caf,aiff,au"
# FFmpeg's AVFMT_TS_DISCONT: the clock of such a container may leap, since pieces of it may be joined.
_MAY_LEAP = 0x0200
# A reader goes on behind damage, as players do; one that gets nowhere ends.
_MAX_FAILURES_IN_A_ROW = 32
_MAX_FAILURES = 4096
# Stuffing and tables behind the last packet are no piece.
_TAIL_BYTES, _TAIL_SHARE = 20_000, 0.05


def open_container(path: Path, *, sound_alone: bool = False) -> InputContainer:
    """Open a local media file, of a container that holds its streams itself. Raises BadInput for any other file.

    Args:
        sound_alone: the file is wanted for its sound, so that formats without pictures are opened too.
    """
    options = _SOUND_OPTIONS if sound_alone else _OPEN_OPTIONS
    try:
        # The explicit protocol keeps a file named like an address from being taken for one.
        return av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace")
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: {reason(error)}. Check its permissions.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        kind, way_out = ("sound", "sound.wav, or use --silent") if sound_alone else ("a video", "out.mp4")
        raise BadInput(
            f"{path} cannot be opened as {kind}: {reason(error)}. It is another kind of file, or incomplete (an MP4 "
            f"has its index at the end). Copy it again, or convert it: ffmpeg -i FILE {way_out}"
        ) from error


def reason(error: BaseException) -> str:
    """Quote what a library says is wrong, without its numbers."""
    return getattr(error, "strerror", None) or str(error)


def declares_duration(container: Container) -> bool:
    """Tell whether the format states how long it is; in others FFmpeg guesses by the bit rate or the last packet."""
    return not set(_DECLARE.split(",")).isdisjoint(container.format.name.split(","))


def may_leap(container: InputContainer) -> bool:
    """Tell whether the format lets pieces be joined, so that its clock may start again in the middle of a file."""
    return bool(container.format.flags & _MAY_LEAP)


class PacketReader:
    """Reads the packets of all streams of a file, in their order, on one clock.

    Times are those of the file; where its clock starts again or leaps, the packets behind are moved to follow those
    before. Damage of the container is counted and read past.
    """

    def __init__(self, container: InputContainer) -> None:
        self.container = container
        self.clock = Clock(may_leap(container))
        self.num_failures = 0
        self.last_failure: BaseException | None = None
        # By stream: the end of its last packet, in seconds; and how many the container marks as damaged.
        self.ends_s: dict[int, float] = {}
        self.num_marked: dict[int, int] = {}
        self._read_bytes = 0

    def missing_s(self, stream: Stream) -> float:
        """Return the seconds of a track that the file declares and does not hold, once it was read to its end."""
        if not declares_duration(self.container) or not self.ends_s:
            return 0.0
        declared_s, tick_s, begin = self.container.duration, stream.time_base, stream.start_time or 0
        if stream.duration is not None and tick_s is not None:
            own_s = float(stream.duration * tick_s)
            # FFmpeg writes the duration of the whole file into tracks that do not state their own.
            if (
                declared_s is None
                or "mp4" in self.container.format.name
                or abs(own_s - declared_s / av.time_base) > 1e-3
            ):
                begin_s = float(begin * tick_s)
                return begin_s + own_s - self.ends_s.get(stream.index, begin_s)
        if declared_s is None:
            return 0.0
        # Matroska counts its duration from its clock's zero, all others from the first packet.
        begins = 0 if "matroska" in self.container.format.name else self.container.start_time or 0
        return (begins + declared_s) / av.time_base - max(self.ends_s.values())

    @property
    def unread_bytes(self) -> int:
        """Count the bytes behind the last packet, once a stream of joined pieces was read to its end.

        PyAV knows the tracks that a file begins with; a piece with others is not read.
        """
        if not may_leap(self.container) or not self._read_bytes:
            return 0
        left = self.container.size - self._read_bytes
        return left if left > max(_TAIL_BYTES, self.container.size * _TAIL_SHARE) else 0

    def packets(self) -> "Iterator[tuple[Packet[Stream], Stream]]":
        """Yield each packet with its stream; at the end an empty one for each stream, which flushes its decoder."""
        in_a_row = 0
        while True:
            try:
                for packet in self.container.demux():
                    in_a_row = 0
                    self._place(packet)
                    yield packet, packet.stream
                return
            except IndexError:
                # PyAV flushes tracks that came up in the middle of the file, and has none of them.
                return
            except av.FFmpegError as error:
                self.last_failure = error
                self.num_failures += 1
                in_a_row += 1
                if in_a_row > _MAX_FAILURES_IN_A_ROW or self.num_failures > _MAX_FAILURES:
                    return

    def _place(self, packet: "Packet[Stream]") -> None:
        """Move a packet's times to the one clock, and keep its end."""
        if packet.is_corrupt:
            self.num_marked[packet.stream.index] = self.num_marked.get(packet.stream.index, 0) + 1
        if packet.pos is not None:
            self._read_bytes = max(self._read_bytes, packet.pos + packet.size)
        tick_s = packet.time_base
        if tick_s is None or (packet.pts is None and packet.dts is None):
            return
        # A quotient of whole numbers is that of the fraction, to the bit, and ten times as fast.
        ticks, a_second = tick_s.numerator, tick_s.denominator
        duration_s = (packet.duration or 0) * ticks / a_second
        index = packet.stream.index
        timed = packet.stream.type in ("video", "audio")
        at = packet.dts if packet.dts is not None else packet.pts
        assert at is not None
        offset_s = self.clock.offset_s(index, at * ticks / a_second, duration_s, timed)
        moved = round(offset_s / tick_s) if offset_s else 0
        if moved:
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved
        if packet.is_discard:
            # An edit list leaves it out.
            return
        shown = packet.pts if packet.pts is not None else packet.dts
        assert shown is not None
        self.ends_s[index] = max(self.ends_s.get(index, -1e18), shown * ticks / a_second + duration_s)

"""Media in: a video file with its sound track, or a folder of frames with a WAV -> sampled frames and 16 kHz stereo.

Time 0 is the first frame of the video; the sound is padded or trimmed to it. Frame i is the one on display at
start_s + i / fps. Frames are decoded one after the other; only the sampled ones become RGB and stay in memory.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import BadInput
from service.frames import check_size, image_size, list_frames, read_frames
from service.sound import read_sound_file, read_track

MAX_FRAMES = 600
MAX_FPS = 120.0
MAX_FRAMES_BYTES = 4 << 30
MAX_SOUND_S = 3600.0

Progress = Callable[[int, int | None], None]

# Containers hold streams; playlists and scripts (hls, dash, concat, sdp) name other files or addresses: left out.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,wtv,rm,gif,ivf,obu,h264,hevc,m4v,mjpeg,"
    "yuv4mpegpipe,mp3,wav,flac,aac"
)
_OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
# A file may end this much before its declared duration: it is rounded, and the last frame's is often a guess.
_TRUNCATION_SLACK_S = 0.5
# A time this close to the end shows a frame about to vanish: 150 frames at 29.97 a second (5.005 s) give 5, not 6.
_END_SLACK_S = 0.02
# Below this, decoding from the start is cheap, and no container's index has to be trusted.
_SEEK_BEYOND_S = 5.0


@dataclass(frozen=True, eq=False)
class Media:
    """A clip as read: sampled frames, and the sound from time 0 to at least one second past the last frame."""

    frames: NDArray[np.uint8]  # [N, H, W, 3] RGB
    times_s: NDArray[np.float64]  # [N]
    fps: float
    sound: NDArray[np.float32] | None  # [S, 2] at 16 kHz from the video's time 0; None for silence
    source: str
    duration_s: float  # of the video: measured if it was read to its end, else as declared


@dataclass(frozen=True)
class _Plan:
    """Which times are wanted, and what that may cost."""

    source: str
    fps: float
    start_s: float
    max_frames: int | None
    progress: Progress | None

    def __post_init__(self) -> None:
        if not 0 < self.fps <= MAX_FPS:
            raise BadInput(
                f"fps = {self.fps}; must be above 0 and at most {MAX_FPS:g} frames a second. Use 1 if unsure."
            )
        if not 0 <= self.start_s <= MAX_SOUND_S:
            raise BadInput(f"start_s = {self.start_s}; must be 0 to {MAX_SOUND_S:g} s. Cut the video first.")
        if self.max_frames is not None and not 1 <= self.max_frames <= MAX_FRAMES:
            raise BadInput(
                f"max_frames = {self.max_frames}; must be 1 to {MAX_FRAMES}. Read the rest in a second call."
            )

    @property
    def limit(self) -> int:
        # One more than allowed, so that a video which is too long is seen to be.
        return MAX_FRAMES + 1 if self.max_frames is None else self.max_frames

    def time_s(self, index: int) -> float:
        return self.start_s + index / self.fps

    def count_before(self, end_s: float, frame_s: float) -> int:
        """Number of sampled times, unlimited, in a video that ends at end_s and whose last frame lasts frame_s."""
        return max(0, math.ceil((end_s - min(frame_s / 2, _END_SLACK_S) - self.start_s) * self.fps - 1e-9))

    def check(self, num_frames: int, height: int, width: int) -> None:
        """Raise BadInput when that many frames are too many, or too many bytes."""
        num_frames = min(num_frames, self.limit)
        if num_frames > MAX_FRAMES:
            raise BadInput(
                f"{self.source} has more than {MAX_FRAMES} frames at {self.fps:g} a second from {self.start_s:g} s on; "
                f"at most {MAX_FRAMES} are read at once. Give --max-frames, or a lower --fps."
            )
        num_bytes = num_frames * height * width * 3
        if num_bytes > MAX_FRAMES_BYTES:
            raise BadInput(
                f"{self.source}: {num_frames} frames of {width} x {height} px take {num_bytes / 2**30:.1f} GiB;"
                f" at most {MAX_FRAMES_BYTES >> 30} GiB are held. Give --max-frames, a lower --fps, or a smaller video."
            )


def read_media(
    path: str | Path,
    *,
    fps: float = 1.0,
    start_s: float = 0.0,
    max_frames: int | None = None,
    silent: bool = False,
    sound_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Media:
    """Read a video file, or a folder of images (png, jpg, jpeg, bmp, webp by name) with one WAV in it.

    Args:
        path: a local file in any usual container, or a folder. The images of a folder are 1 / fps seconds apart.
        fps: frames a second to sample, above 0 to 120. A frame is repeated where the video has fewer.
        start_s: time of the first sampled frame in seconds from the first frame of the video, 0 to 3600.
        max_frames: sample at most this many, 1 to 600; the rest of the file is not read. None: all, at most 600.
        silent: read no sound; `Media.sound` is then None.
        sound_path: a sound file (WAV, FLAC, OGG) that takes the place of the video's track, or is that of the folder.
        progress: called with (frames sampled, frames expected or None).
    Returns: `Media`.
    Raises: BadInput, and nothing else, for whatever is wrong with an argument or a file.
    """
    location = Path(path)
    if "://" in str(path):
        raise BadInput(f"{path} is an address; only local files are read. Download it first.")
    if silent and sound_path is not None:
        raise BadInput(f"Both --silent and the sound file {sound_path} are given; use one of the two.")
    plan = _Plan(location.name or str(location), float(fps), float(start_s), max_frames, progress)
    if location.is_dir():
        frames, duration_s = _read_folder(location, plan)
        origin_s = 0.0
        sound_path = sound_path or (None if silent else _sound_of_folder(location))
    elif location.is_file():
        frames, duration_s, origin_s = _read_video(location, plan)
    else:
        what = "is neither a file nor a folder" if location.exists() else "does not exist"
        raise BadInput(f"{path} {what}. Give a video file, or a folder of frames.")
    times_s = plan.start_s + np.arange(len(frames)) / plan.fps
    sound = None
    if not silent:
        until_s = float(times_s[-1]) + 1 / plan.fps + 1
        if until_s > MAX_SOUND_S:
            raise BadInput(
                f"{plan.source}: the frames reach to {times_s[-1]:.0f} s, the sound is read to {MAX_SOUND_S:g} s at "
                "most. Give --max-frames, an earlier --start, or --silent."
            )
        if sound_path is not None:
            sound = read_sound_file(Path(sound_path), until_s)
        else:
            with _open(location) as container:
                sound = read_track(container, str(location), origin_s, until_s)
    return Media(frames, times_s, plan.fps, sound, str(path), duration_s)


def _read_folder(folder: Path, plan: _Plan) -> tuple[NDArray[np.uint8], float]:
    paths = list_frames(folder)
    duration_s = len(paths) / plan.fps
    first = math.floor(plan.start_s * plan.fps + 1e-9)
    chosen = paths[first : first + plan.limit]
    if not chosen:
        raise _starts_too_late(plan, duration_s)
    plan.check(len(chosen), *image_size(chosen[0]))
    return read_frames(chosen, plan.progress), duration_s


def _sound_of_folder(folder: Path) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav")
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise BadInput(
            f"Folder {folder} holds {len(found)} WAV files ({names}); exactly 1 is its sound. "
            "Give the sound file by name, or use --silent to go without."
        )
    return found[0]


def _starts_too_late(plan: _Plan, end_s: float) -> BadInput:
    return BadInput(f"start_s = {plan.start_s:g}, but {plan.source} ends at {end_s:.2f} s. Give an earlier --start.")


def _open(path: Path) -> InputContainer:
    try:
        # The explicit protocol keeps a file named like an address from being taken for one.
        return av.open(f"file:{path}", "r", container_options=_OPEN_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be opened as a video: {_reason(error)}. It is another kind of file, or incomplete (an MP4 "
            "has its index at the end). Copy it anew, or convert it: ffmpeg -i FILE out.mp4"
        ) from error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def _declared_s(stream: Stream) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


class _VideoReader:
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


def _read_video(path: Path, plan: _Plan) -> tuple[NDArray[np.uint8], float, float]:
    """Return the frames, the duration of the video, and the time of its first frame on the container's clock."""
    if plan.start_s > _SEEK_BEYOND_S:
        with _open(path) as container:
            reader = _VideoReader(path, container)
            if reader.seek(plan.start_s):
                frames = _sample(reader, plan, sought=True)
                if frames is not None:
                    return frames, reader.duration_s, reader.origin_s or 0.0
    with _open(path) as container:
        reader = _VideoReader(path, container)
        frames = _sample(reader, plan, sought=False)
        assert frames is not None
        return frames, reader.duration_s, reader.origin_s or 0.0


def _sample(reader: _VideoReader, plan: _Plan, *, sought: bool) -> NDArray[np.uint8] | None:
    """Collect the frames on display at the planned times; None when a seek went past the first of them."""
    declared_s = reader.declared_s
    expected = None if declared_s is None else min(plan.count_before(declared_s, reader.frame_s), plan.limit)
    if expected is not None:
        plan.check(expected, reader.size[1], reader.size[0])
    # Containers round timestamps to their clock, so that a frame may seem up to half a tick late.
    tolerance_s = min(float(reader.stream.time_base or 0) / 2 + 1e-6, 1e-3)
    sampled: list[NDArray[np.uint8]] = []
    shown: VideoFrame | None = None
    rgb: NDArray[np.uint8] | None = None

    def take(num_frames: int) -> None:
        nonlocal rgb
        while shown is not None and len(sampled) < num_frames:
            plan.check(len(sampled) + 1, shown.height, shown.width)
            rgb = _to_rgb(shown, reader.path) if rgb is None else rgb
            sampled.append(rgb)
            if plan.progress is not None:
                plan.progress(len(sampled), expected)

    for frame, time_s in reader.frames():
        if sought and shown is None and time_s > plan.start_s + tolerance_s:
            return None
        take(min(plan.count_before(time_s - tolerance_s, 0), plan.limit))
        shown, rgb = frame, None
        if len(sampled) == plan.limit:
            return _stack(sampled)
    why = "" if reader.damage is None else f" ({_reason(reader.damage)})"
    if reader.num_frames == 0:
        raise BadInput(f"{reader.path}: no frame of its video can be decoded{why}. Convert it: ffmpeg -i FILE out.mp4")
    missing_s = 0.0 if declared_s is None else declared_s - reader.read_s
    if missing_s > _TRUNCATION_SLACK_S or (reader.damage is not None and declared_s is None):
        declared = "" if declared_s is None else f" of its declared {declared_s:.2f} s"
        raise BadInput(
            f"{reader.path} can be decoded only up to {reader.read_s:.2f} s{declared}; it is truncated or "
            f"damaged{why}. Copy it anew, or read only what is there with --max-frames."
        )
    if reader.num_frames == 1:
        raise BadInput(f"{reader.path} is a video of 1 frame; at least 2 are needed. Give a longer video.")
    take(min(plan.count_before(reader.end_s, reader.frame_s), plan.limit))
    if not sampled:
        raise _starts_too_late(plan, reader.end_s)
    return _stack(sampled)


def _to_rgb(frame: VideoFrame, path: Path) -> NDArray[np.uint8]:
    try:
        rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        raise BadInput(
            f"{path}: its pixels ({frame.format.name}) cannot be read as RGB: {_reason(error)}. Convert it."
        ) from error
    # Phones store the picture as the sensor sees it and note the turn; the angle is counter-clockwise, as rot90's is.
    return np.rot90(rgb, round(frame.rotation / 90)) if frame.rotation else rgb


def _stack(sampled: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """As np.stack, but gives each frame back as soon as it is copied, so that the clip lies in memory once."""
    frames = np.empty((len(sampled), *sampled[0].shape), np.uint8)
    for index in reversed(range(len(sampled))):
        frames[index] = sampled.pop()
    return frames

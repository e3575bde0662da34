"""Media in: a video file with its sound track, or a folder of frames with a WAV -> sampled frames and 16 kHz stereo.

Time 0 is the first frame of the video; the sound is padded or trimmed to it. Frame i is the one on display at
start_s + i / fps. Frames are decoded one after the other; only the sampled ones become RGB and stay in memory.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.folders import list_files
from auralsam2_client.media.frames import image_size, list_frames, read_frames
from auralsam2_client.media.sound_reader import read_sound_file, read_track
from auralsam2_client.media.video_reader import VideoReader, open_container, reason, to_rgb

MAX_FRAMES = 600
# One frame an hour, to 120 a second.
MIN_FPS, MAX_FPS = 1 / 3600, 120.0
MAX_FRAMES_BYTES = 4 << 30
MAX_SOUND_S = 3600.0

Progress = Callable[[int, int | None], None]

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
    files: tuple[str, ...] = ()
    """Names of the files that the frames of a folder come from, one a frame; empty for a video."""


@dataclass(frozen=True)
class _Plan:
    """Which times are wanted, and what that may cost."""

    source: str
    fps: float
    start_s: float
    max_frames: int | None
    progress: Progress | None

    def __post_init__(self) -> None:
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise BadInput(
                f"fps = {self.fps}; must be 1/3600 (a frame an hour) to {MAX_FPS:g} frames a second. Use 1 if unsure."
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
    """Read a video file, or a folder of images (png, jpg, bmp, webp, tif by name, in natural order) with one WAV in it.

    Args:
        path: a local file in any usual container, or a folder. The images of a folder are 1 / fps seconds apart.
        fps: frames a second to sample, 1/3600 to 120. A frame is repeated where the video has fewer.
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
    files: tuple[str, ...] = ()
    if location.is_dir():
        frames, duration_s, files = _read_folder(location, plan)
        origin_s = 0.0
        sound_path = sound_path or (None if silent else _sound_of_folder(location))
    elif location.is_file():
        found = _Found()
        frames = _stack(list(_video_frames(location, plan, found)))
        duration_s, origin_s = found.duration_s, found.origin_s
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
            with open_container(location) as container:
                sound = read_track(container, str(location), origin_s, until_s)
    return Media(frames, times_s, plan.fps, sound, str(path), duration_s, files)


def _read_folder(folder: Path, plan: _Plan) -> tuple[NDArray[np.uint8], float, tuple[str, ...]]:
    paths = list_frames(folder)
    duration_s = len(paths) / plan.fps
    first = math.floor(plan.start_s * plan.fps + 1e-9)
    chosen = paths[first : first + plan.limit]
    if not chosen:
        raise _starts_too_late(plan, duration_s)
    plan.check(len(chosen), *image_size(chosen[0]))
    return read_frames(chosen, plan.progress), duration_s, tuple(path.name for path in chosen)


def _sound_of_folder(folder: Path) -> Path:
    found = list_files(folder, (".wav",))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise BadInput(
            f"Folder {folder} holds {len(found)} WAV files ({names}); exactly 1 is its sound. "
            "Give the sound file by name, or use --silent to go without."
        )
    return found[0]


def _starts_too_late(plan: _Plan, end_s: float) -> BadInput:
    return BadInput(f"start_s = {plan.start_s:g}, but {plan.source} ends at {end_s:.2f} s. Give an earlier --start.")


@dataclass
class _Found:
    """What is known of a video while its frames are read: where it begins, and at the end how long it is."""

    expected: int | None = None  # frames, by the declared duration
    origin_s: float = 0.0  # of the first frame, on the container's clock
    duration_s: float = 0.0


class _SoughtPast(Exception):
    """A seek went past the first of the planned times."""


def _video_frames(path: Path, plan: _Plan, found: _Found) -> Iterator[NDArray[np.uint8]]:
    """Give the frames on display at the planned times, one after the other; `found` is filled in on the way."""
    for sought in (True, False) if plan.start_s > _SEEK_BEYOND_S else (False,):
        with open_container(path) as container:
            reader = VideoReader(path, container)
            if sought and not reader.seek(plan.start_s):
                continue
            try:
                yield from _sample(reader, plan, found, sought=sought)
            except _SoughtPast:
                continue
            found.duration_s = reader.duration_s
            return


def _sample(reader: VideoReader, plan: _Plan, found: _Found, *, sought: bool) -> Iterator[NDArray[np.uint8]]:
    """Give the frames on display at the planned times. Raises: _SoughtPast, before the first of them."""
    declared_s = reader.declared_s
    expected = None if declared_s is None else min(plan.count_before(declared_s, reader.frame_s), plan.limit)
    found.expected = expected
    if expected is not None:
        plan.check(expected, reader.size[1], reader.size[0])
    # Containers round timestamps to their clock, so that a frame may seem up to half a tick late.
    tolerance_s = min(float(reader.stream.time_base or 0) / 2 + 1e-6, 1e-3)
    num_sampled = 0
    shown: VideoFrame | None = None
    rgb: NDArray[np.uint8] | None = None

    def take(num_frames: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal rgb, num_sampled
        while shown is not None and num_sampled < num_frames:
            plan.check(num_sampled + 1, shown.height, shown.width)
            rgb = to_rgb(shown, reader.path) if rgb is None else rgb
            num_sampled += 1
            found.origin_s = reader.origin_s or 0.0
            if plan.progress is not None:
                plan.progress(num_sampled, expected)
            yield rgb

    for frame, time_s in reader.frames():
        if sought and shown is None and time_s > plan.start_s + tolerance_s:
            raise _SoughtPast
        yield from take(min(plan.count_before(time_s - tolerance_s, 0), plan.limit))
        shown, rgb = frame, None
        if num_sampled == plan.limit:
            return
    why = "" if reader.damage is None else f" ({reason(reader.damage)})"
    if reader.num_frames == 0:
        raise BadInput(f"{reader.path}: no frame of its video can be decoded{why}. Convert it: ffmpeg -i FILE out.mp4")
    missing_s = 0.0 if declared_s is None else declared_s - reader.read_s
    if missing_s > _TRUNCATION_SLACK_S or (reader.damage is not None and declared_s is None):
        declared = "" if declared_s is None else f" of its declared {declared_s:.2f} s"
        raise BadInput(
            f"{reader.path} can be decoded only up to {reader.read_s:.2f} s{declared}; it is truncated or "
            f"damaged{why}. Copy it again, or read only what is there with --max-frames."
        )
    if reader.num_frames == 1:
        raise BadInput(f"{reader.path} is a video of 1 frame; at least 2 are needed. Give a longer video.")
    yield from take(min(plan.count_before(reader.end_s, reader.frame_s), plan.limit))
    if not num_sampled:
        raise _starts_too_late(plan, reader.end_s)


def _stack(sampled: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """As np.stack, but gives each frame back as soon as it is copied, so that the clip lies in memory once."""
    frames = np.empty((len(sampled), *sampled[0].shape), np.uint8)
    for index in reversed(range(len(sampled))):
        frames[index] = sampled.pop()
    return frames

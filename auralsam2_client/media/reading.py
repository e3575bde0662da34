"""A clip while it is read: which frames are taken and what they may cost, frames one after the other, then the sound.

Frame i is the one on display at start_s + i / fps. Frames are decoded one after the other; only the sampled ones become
RGB.
"""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.folders import list_files
from auralsam2_client.media.frames import check_one_size, image_size, list_frames, read_frames
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


@dataclass(frozen=True)
class Plan:
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
        """How many frames to collect."""
        # One more than allowed, so that a video which is too long is seen to be.
        return MAX_FRAMES + 1 if self.max_frames is None else self.max_frames

    def time_s(self, index: int) -> float:
        """Return when a sampled frame is shown."""
        return self.start_s + index / self.fps

    def count_before(self, end_s: float, frame_s: float) -> int:
        """Count the sampled times, unlimited, in a video that ends at end_s and whose last frame lasts frame_s."""
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


@dataclass
class Found:
    """What is known of a video while its frames are read: where it begins, and at the end how long it is."""

    expected: int | None = None  # frames, by the declared duration
    origin_s: float = 0.0  # of the first frame, on the container's clock
    duration_s: float = 0.0


class _SoughtPast(Exception):
    """A seek went past the first of the planned times."""


def _video_frames(path: Path, plan: Plan, found: Found) -> Generator[NDArray[np.uint8], None, None]:
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


def _sample(reader: VideoReader, plan: Plan, found: Found, *, sought: bool) -> Iterator[NDArray[np.uint8]]:
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


@dataclass
class Reading:
    """A clip that is opened; see `read_media` for what it is made of."""

    plan: Plan
    location: Path
    source: str
    found: Found
    frames: Generator[NDArray[np.uint8], None, None]
    files: tuple[str, ...] = ()
    sound_file: Path | None = None
    silent: bool = False

    def sound_until_s(self, num_frames: int) -> float:
        """Tell how far the sound of so many frames is read. Raises: BadInput beyond what is read of a sound."""
        last_s = self.plan.time_s(num_frames - 1)
        until_s = last_s + 1 / self.plan.fps + 1
        if not self.silent and until_s > MAX_SOUND_S:
            raise BadInput(
                f"{self.plan.source}: the frames reach to {last_s:.0f} s, the sound is read to {MAX_SOUND_S:g} s at "
                "most. Give --max-frames, an earlier --start, or --silent."
            )
        return until_s

    def read_sound(self, until_s: float) -> NDArray[np.float32] | None:
        """Read the sound from time 0, of a video once its first frame was taken; None for silence. Raises: BadInput."""
        if self.silent:
            return None
        if self.sound_file is not None:
            return read_sound_file(self.sound_file, until_s)
        with open_container(self.location) as container:
            return read_track(container, str(self.location), self.found.origin_s, until_s)


def open_media(
    path: str | Path,
    *,
    fps: float,
    start_s: float,
    max_frames: int | None,
    silent: bool,
    sound_path: str | Path | None,
    progress: Progress | None = None,
) -> Reading:
    """Open a clip; arguments and errors as `read_media`. Its frames are read when they are taken."""
    location = Path(path)
    if "://" in str(path):
        raise BadInput(f"{path} is an address; only local files are read. Download it first.")
    if silent and sound_path is not None:
        raise BadInput(f"Both --silent and the sound file {sound_path} are given; use one of the two.")
    plan = Plan(location.name or str(location), float(fps), float(start_s), max_frames, progress)
    sound_file = None if sound_path is None else Path(sound_path)
    found = Found()
    if location.is_dir():
        paths = _chosen_of_folder(location, plan, found)
        if not silent and sound_file is None:
            sound_file = _sound_of_folder(location)
        frames, files = _folder_frames(paths, plan), tuple(each.name for each in paths)
        return Reading(plan, location, str(path), found, frames, files, sound_file, silent)
    if location.is_file():
        return Reading(plan, location, str(path), found, _video_frames(location, plan, found), (), sound_file, silent)
    what = "is neither a file nor a folder" if location.exists() else "does not exist"
    raise BadInput(f"{path} {what}. Give a video file, or a folder of frames.")


def _chosen_of_folder(folder: Path, plan: Plan, found: Found) -> list[Path]:
    paths = list_frames(folder)
    found.duration_s = len(paths) / plan.fps
    first = math.floor(plan.start_s * plan.fps + 1e-9)
    chosen = paths[first : first + plan.limit]
    if not chosen:
        raise _starts_too_late(plan, found.duration_s)
    plan.check(len(chosen), *image_size(chosen[0]))
    check_one_size(chosen)
    found.expected = len(chosen)
    return chosen


def _folder_frames(paths: list[Path], plan: Plan) -> Generator[NDArray[np.uint8], None, None]:
    for number, path in enumerate(paths, 1):
        (frame,) = read_frames([path])
        if plan.progress is not None:
            plan.progress(number, len(paths))
        yield frame


def _sound_of_folder(folder: Path) -> Path:
    found = list_files(folder, (".wav",))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise BadInput(
            f"Folder {folder} holds {len(found)} WAV files ({names}); exactly 1 is its sound. "
            "Give the sound file by name, or use --silent to go without."
        )
    return found[0]


def _starts_too_late(plan: Plan, end_s: float) -> BadInput:
    return BadInput(f"start_s = {plan.start_s:g}, but {plan.source} ends at {end_s:.2f} s. Give an earlier --start.")

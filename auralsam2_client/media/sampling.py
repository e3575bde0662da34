"""Which frames of a video are taken: those on display at the sampled times, and the last while the sound goes on."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.packets import reason
from auralsam2_client.media.containers.tracks import Used
from auralsam2_client.media.notes import Notes, count_of
from auralsam2_client.media.video_reader import VideoReader, to_rgb

Progress = Callable[[int, int | None], None]

# A file may end this much before its declared duration: it is rounded, and the last frame's is often a guess.
TRUNCATION_SLACK_S = 0.5
# A time this close to the end shows a frame about to vanish: 150 frames at 29.97 a second (5.005 s) give 5, not 6.
_END_SLACK_S = 0.02
# Sound codecs fill up their last block: what is less than this much longer than the pictures is no sound of its own.
SOUND_PADDING_S = 0.1
# Players show the last picture while the sound goes on; beyond this, sound is another thing than the clip's.
MAX_HELD_S = 60.0


@dataclass(frozen=True)
class Plan:
    """Which times are wanted, and what that may cost."""

    source: str
    fps: float
    start_s: float
    max_frames: int | None
    progress: Progress | None
    frames_limit: int  # frames that are read at once
    bytes_limit: int  # that they may take
    latest_start_s: float  # that can be asked for

    @property
    def limit(self) -> int:
        """How many frames to collect; one more than allowed, so that a video which is too long is seen to be."""
        return self.frames_limit + 1 if self.max_frames is None else self.max_frames

    def time_s(self, index: int) -> float:
        """Return when a sampled frame is shown."""
        return self.start_s + index / self.fps

    def count_before(self, end_s: float, frame_s: float) -> int:
        """Count the sampled times, unlimited, in a video that ends at end_s and whose last frame lasts frame_s."""
        return max(0, math.ceil((end_s - min(frame_s / 2, _END_SLACK_S) - self.start_s) * self.fps - 1e-9))

    def most(self, height: int, width: int) -> int:
        """Count the frames of that size that may be held."""
        return min(self.frames_limit, self.bytes_limit // max(1, height * width * 3))

    def check(self, num_frames: int, height: int, width: int) -> None:
        """Raise BadInput when that many frames are too many, or too many bytes."""
        num_frames = min(num_frames, self.limit)
        if num_frames > self.frames_limit:
            next_s = self.time_s(self.frames_limit)
            parts = f"{self.frames_limit} now, then the same with --start {next_s:g}; or give a lower --fps"
            raise BadInput(
                f"{self.source} has more than {self.frames_limit} frames at {self.fps:g} a second from "
                f"{self.start_s:g} s on; at most {self.frames_limit} are read at once. Give --max-frames "
                f"{parts if next_s <= self.latest_start_s else 'or a lower --fps, or cut the video'}."
            )
        num_bytes = num_frames * height * width * 3
        if num_bytes > self.bytes_limit:
            raise BadInput(
                f"{self.source}: {num_frames} frames of {width} x {height} px take {num_bytes / 2**30:.1f} GiB;"
                f" at most {self.bytes_limit >> 30} GiB are held. Give --max-frames, a lower --fps, or a smaller video."
            )


@dataclass
class Found:
    """What is known of a clip while its frames are read; of a video the most from the first frame on."""

    expected: int | None = None
    """Frames, by the declared duration; more come where the last is held."""
    duration_s: float = 0.0
    """Known after the last frame."""
    origin_s: float = 0.0
    """Of the first frame of the video, on the container's clock."""
    used: Used | None = None
    aspect: float = 1.0
    """Width by height of a pixel as it is shown."""


class SoughtPast(Exception):
    """A seek went past the first of the planned times."""


def starts_too_late(plan: Plan, end_s: float) -> BadInput:
    """Make the error of a first sampled time behind the end."""
    return BadInput(f"start_s = {plan.start_s:g}, but {plan.source} ends at {end_s:.2f} s. Give an earlier --start.")


def sample(
    reader: VideoReader,
    plan: Plan,
    found: Found,
    notes: Notes,
    sound_end_s: Callable[[int], float | None],
    *,
    first_packet: int = 0,
    sought: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Give the frames on display at the planned times, [H, W, 3] uint8 RGB, one after the other.

    Args:
        reader: not read yet, or moved to a key frame.
        found: takes how many frames there are by the declared duration.
        notes: takes, after the last frame, a line for each kind of damage, and for a picture that is held.
        sound_end_s: called at the end of the pictures with their number; gives when the sound ends, or None.
        first_packet: as in `VideoReader.frames`.
        sought: the reader was moved.
    Raises: BadInput when there is nothing to show, or more than may be held; SoughtPast, before the first frame, when a
        seek went past it.
    """
    declared_s = reader.declared_s
    expected = None if declared_s is None else min(plan.count_before(declared_s, reader.frame_s), plan.limit)
    # Containers round timestamps to their clock, so that a frame may seem up to half a tick late.
    tolerance_s = min(float(reader.stream.time_base or 0) / 2 + 1e-6, 1e-3)
    found.expected = expected
    num_sampled = 0
    shown: VideoFrame | None = None
    rgb: NDArray[np.uint8] | None = None
    flaws_s: list[float] = []

    def take(num_frames: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal rgb, num_sampled
        while shown is not None and num_sampled < num_frames:
            plan.check(num_sampled + 1, shown.height, shown.width)
            rgb = to_rgb(shown, reader.path, reader.orientation) if rgb is None else rgb
            num_sampled += 1
            if plan.progress is not None:
                plan.progress(num_sampled, None if expected is None else max(expected, num_sampled))
            yield rgb

    for frame, time_s in reader.frames(first_packet):
        if sought and shown is None and time_s > plan.start_s + tolerance_s:
            raise SoughtPast
        yield from take(min(plan.count_before(time_s - tolerance_s, 0), plan.limit))
        shown, rgb = frame, None
        # What lies before the start is decoded from a key frame that may refer to what was left out.
        if frame.is_corrupt and time_s >= plan.start_s:
            flaws_s.append(time_s)
        if num_sampled == plan.limit:
            break
    else:
        if sought and shown is None:
            raise SoughtPast
        end_s, frame_s = _end(reader, plan, notes, sound_end_s)
        yield from take(min(plan.count_before(end_s, frame_s), plan.limit))
        if not num_sampled:
            raise starts_too_late(plan, end_s)
    if flaws_s:
        notes.add_damage(
            f"{count_of(len(flaws_s), 'picture')} of the video came damaged, the first at {flaws_s[0]:.2f} s"
        )
    _note_damage(reader, notes)


def _end(
    reader: VideoReader, plan: Plan, notes: Notes, sound_end_s: Callable[[int], float | None]
) -> tuple[float, float]:
    """Return when the clip ends, and how long its last frame lasts then."""
    if reader.num_frames == 0:
        why = "" if reader.damage is None else f" ({reason(reader.damage)})"
        raise BadInput(f"{reader.path}: no frame of its video can be decoded{why}. Convert it: ffmpeg -i FILE out.mp4")
    heard_s = sound_end_s(reader.num_frames)
    if heard_s is None:
        if reader.num_frames == 1:
            raise BadInput(
                f"{reader.path} is a video of 1 frame without sound; at least 2 are needed, or a sound for it to be "
                "held under. Give a longer video, or --sound."
            )
        return reader.end_s, reader.frame_s
    beyond_s = heard_s - SOUND_PADDING_S - reader.end_s
    if beyond_s <= 0:
        return reader.end_s, reader.frame_s
    if beyond_s > MAX_HELD_S and reader.num_frames > 1:
        notes.add(
            f"the sound outlasts the last picture by {heard_s - reader.end_s:.0f} s; the clip ends with the video at "
            f"{reader.end_s:.2f} s"
        )
        return reader.end_s, reader.frame_s
    if plan.count_before(heard_s - SOUND_PADDING_S, 0) > plan.count_before(reader.end_s, reader.frame_s):
        notes.add(f"the last picture is held from {reader.end_s:.2f} s to {heard_s:.2f} s, while the sound goes on")
    return heard_s - SOUND_PADDING_S, 0.0


def _note_damage(reader: VideoReader, notes: Notes) -> None:
    if reader.lead_s > TRUNCATION_SLACK_S or reader.num_damaged_before:
        notes.add_damage(
            f"the first {max(0.0, reader.lead_s):.2f} s of the video hold no whole picture, since it begins between "
            "two key frames, or damaged; time 0 is its first whole picture"
        )
    if reader.num_damaged:
        notes.add_damage(
            f"{count_of(reader.num_damaged, 'packet')} of the video cannot be decoded, the first at "
            f"{reader.first_damage_s:.2f} s; the picture before stands in"
        )
    packets = reader.packet_reader
    if packets.clock.joints_s:
        notes.add(
            f"the clock of the file starts again or leaps {count_of(len(packets.clock.joints_s), 'time')}; its pieces "
            "were laid one after the other"
        )
    if reader.ended and packets.unread_bytes:
        notes.add_damage(
            f"the last {packets.unread_bytes / 2**20:.1f} MiB hold a piece with other tracks than the beginning, which "
            "is left out"
        )
    missing_s = reader.missing_s if reader.ended else 0.0
    if missing_s > TRUNCATION_SLACK_S and reader.declared_s is not None:
        notes.add_damage(
            f"it can be decoded only up to {reader.end_s:.2f} s of its declared {reader.end_s + missing_s:.2f} s: it "
            "broke off, or its header is wrong"
        )
        return
    if reader.num_marked > reader.num_damaged:
        notes.add_damage(
            f"{count_of(reader.num_marked, 'packet')} of the video came damaged; what is left of each is shown"
        )
    if packets.num_failures:
        why = "" if packets.last_failure is None else f" ({reason(packets.last_failure)})"
        notes.add_damage(f"the file is damaged in {count_of(packets.num_failures, 'place')}{why}, and read past them")

"""A clip while it is read: its frames one after the other, of a video or a folder, then its sound.

Frame i is the one on display at start_s + i / fps. Frames are decoded one after the other; only the sampled ones become
RGB.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.display import pixel_aspect
from auralsam2_client.media.containers.packets import open_container
from auralsam2_client.media.containers.tracks import Used, sound_track, track_used
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.sampling import Found, Plan, Progress, SoughtPast, sample, starts_too_late
from auralsam2_client.media.sound import join_pieces
from auralsam2_client.media.sound_reader import Pieces, sound_file_end_s, sound_file_pieces, track_pieces
from auralsam2_client.media.stills.folders import list_files
from auralsam2_client.media.stills.frames import check_one_size, image_size, list_frames, read_frames
from auralsam2_client.media.video_reader import VideoReader

MAX_FRAMES = 600
# One frame an hour, to 120 a second.
MIN_FPS, MAX_FPS = 1 / 3600, 120.0
MAX_FRAMES_BYTES = 4 << 30
MAX_SOUND_S = 3600.0

# Below this, decoding from the start is cheap, and no container's index has to be trusted.
_SEEK_BEYOND_S = 5.0


@dataclass(frozen=True)
class Tracks:
    """Which pictures and which sound are wanted."""

    video: int | None = None
    audio: int | None = None
    silent: bool = False
    sound_file: Path | None = None


@dataclass(frozen=True)
class Reading:
    """A clip that is opened; see `read_media` for what it is made of."""

    plan: Plan
    location: Path
    source: str
    tracks: Tracks
    found: Found
    notes: Notes
    """Of the pictures, complete after the last of them."""
    frames: Generator[NDArray[np.uint8], None, None]
    files: tuple[str, ...] = ()

    def sound_until_s(self, num_frames: int) -> float:
        """Tell how far the sound of so many frames is read. Raises: BadInput beyond what is read of a sound."""
        last_s = self.plan.time_s(num_frames - 1)
        until_s = last_s + 1 / self.plan.fps + 1
        if not self.tracks.silent and until_s > MAX_SOUND_S:
            raise BadInput(
                f"{self.plan.source}: the frames reach to {last_s:.0f} s, the sound is read to {MAX_SOUND_S:g} s at "
                "most. Give --max-frames, an earlier --start, or --silent."
            )
        return until_s

    def read_sound(self, until_s: float, notes: Notes) -> NDArray[np.float32] | None:
        """Read the sound from time 0 as `sound_pieces` does, all of it; None for silence."""
        return None if self.tracks.silent else join_pieces(list(self.sound_pieces(until_s, notes)))

    def sound_pieces(self, until_s: float, notes: Notes) -> Pieces:
        """Read the sound piece by piece, of a video once its first frame was taken. Not for silence.

        Args:
            notes: takes a line for each kind of damage, complete after the last piece.
        Raises: BadInput.
        """
        tracks = self.tracks
        if tracks.sound_file is not None:
            yield from _filled_up(sound_file_pieces(tracks.sound_file, until_s, track=tracks.audio, notes=notes), notes)
            return
        with open_container(self.location) as container:
            reader = VideoReader(self.location, container, tracks.video)
            track = sound_track(container, str(self.location), tracks.audio, reader.stream)
            pieces = track_pieces(container, track, str(self.location), self.found.origin_s, until_s, notes)
            yield from _filled_up(pieces, notes)


def open_media(
    path: str | Path,
    *,
    fps: float,
    start_s: float,
    max_frames: int | None,
    silent: bool,
    sound_path: str | Path | None,
    audio_track: int | None,
    video_track: int | None,
    progress: Progress | None = None,
) -> Reading:
    """Open a clip; arguments and errors as `read_media`. Its frames are read when they are taken."""
    location = Path(path)
    if "://" in str(path):
        raise BadInput(f"{path} is an address; only local files are read. Download it first.")
    if silent and (sound_path is not None or audio_track is not None):
        given = "a sound track" if sound_path is None else f"the sound file {sound_path}"
        raise BadInput(f"Both --silent and {given} are given; use one of the two.")
    plan = _plan(location.name or str(location), float(fps), float(start_s), max_frames, progress)
    found, notes = Found(), Notes(plan.source)
    tracks = Tracks(video_track, audio_track, silent, None if sound_path is None else Path(sound_path))
    if location.is_dir():
        if video_track is not None:
            raise BadInput(f"--video-track {video_track}, but {path} is a folder of frames. Leave it out.")
        paths = _chosen_of_folder(location, plan, found)
        if not silent and tracks.sound_file is None:
            tracks = Tracks(audio=audio_track, sound_file=_sound_of_folder(location))
        frames, files = _folder_frames(paths, plan), tuple(each.name for each in paths)
        return Reading(plan, location, str(path), tracks, found, notes, frames, files)
    if location.is_file():
        frames = _video_frames(location, plan, tracks, found, notes)
        return Reading(plan, location, str(path), tracks, found, notes, frames)
    what = "is neither a file nor a folder" if location.exists() else "does not exist"
    raise BadInput(f"{path} {what}. Give a video file, or a folder of frames.")


def _plan(source: str, fps: float, start_s: float, max_frames: int | None, progress: Progress | None) -> Plan:
    if not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(
            f"fps = {fps}; must be 1/3600 (a frame an hour) to {MAX_FPS:g} frames a second. Use 1 if unsure."
        )
    if not 0 <= start_s <= MAX_SOUND_S:
        raise BadInput(f"start_s = {start_s}; must be 0 to {MAX_SOUND_S:g} s. Cut the video first.")
    if max_frames is not None and not 1 <= max_frames <= MAX_FRAMES:
        raise BadInput(
            f"max_frames = {max_frames}; must be 1 to {MAX_FRAMES}. Read the rest in a second call, with --start."
        )
    return Plan(source, fps, start_s, max_frames, progress, MAX_FRAMES, MAX_FRAMES_BYTES, MAX_SOUND_S)


def _chosen_of_folder(folder: Path, plan: Plan, found: Found) -> list[Path]:
    paths = list_frames(folder)
    found.duration_s = len(paths) / plan.fps
    first = math.floor(plan.start_s * plan.fps + 1e-9)
    chosen = paths[first : first + plan.limit]
    if not chosen:
        raise starts_too_late(plan, found.duration_s)
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


def _video_frames(
    path: Path, plan: Plan, tracks: Tracks, found: Found, notes: Notes
) -> Generator[NDArray[np.uint8], None, None]:
    """Give the frames, from a key frame near the start where that is far; else, or if that fails, from the first."""
    first_packet = 0
    if plan.start_s > _SEEK_BEYOND_S:
        with open_container(path) as container:
            reader = VideoReader(path, container, tracks.video)
            if reader.seek(plan.start_s):
                tried = Notes(notes.name)
                try:
                    yield from _sampled(reader, container, plan, tracks, found, tried, sought=True)
                except SoughtPast:
                    pass
                else:
                    notes.merge(tried)
                    return
        with open_container(path) as container:
            first_packet = VideoReader(path, container, tracks.video).key_before(plan.start_s)
    with open_container(path) as container:
        reader = VideoReader(path, container, tracks.video)
        yield from _sampled(reader, container, plan, tracks, found, notes, first_packet=first_packet)


def _sampled(
    reader: VideoReader,
    container: InputContainer,
    plan: Plan,
    tracks: Tracks,
    found: Found,
    notes: Notes,
    *,
    first_packet: int = 0,
    sought: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Give the sampled frames; what is found of the video is known with the first. Raises: SoughtPast before it."""
    _check_length(reader, plan, tracks.video)
    heard = None
    if not tracks.silent and tracks.sound_file is None:
        heard = sound_track(container, str(reader.path), tracks.audio, reader.stream)

    def sound_end_s(num_pictures: int) -> float | None:
        if heard is not None:
            return reader.track_end_s(heard)
        if tracks.sound_file is None:
            return None
        # A sound of its own does not make a video longer; but one picture is held under it.
        return sound_file_end_s(tracks.sound_file, MAX_SOUND_S) if num_pictures == 1 else reader.end_s

    for frame in sample(reader, plan, found, notes, sound_end_s, first_packet=first_packet, sought=sought):
        if found.used is None:
            assert reader.colour is not None
            found.used = Used(
                track_used(container, reader.stream),
                None if heard is None else track_used(container, heard),
                reader.orientation,
                reader.colour,
                container.metadata.get("comment", ""),
            )
            found.aspect = pixel_aspect(reader.stream.sample_aspect_ratio, reader.orientation)
            found.origin_s = reader.origin_s or 0.0
        yield frame
    found.duration_s = reader.duration_s


def _check_length(reader: VideoReader, plan: Plan, track: int | None) -> None:
    """Raise BadInput, before anything is decoded, for a video that is too long by its header and by what it holds."""
    if reader.declared_s is None:
        return
    width, height = reader.size
    expected, most = plan.count_before(reader.declared_s, reader.frame_s), plan.most(height, width)
    if plan.max_frames is not None:
        expected = min(expected, plan.max_frames)
    if expected > most:
        # A header may lie: what the file holds decides.
        with open_container(reader.path) as container:
            if VideoReader(reader.path, container, track).reaches(plan.time_s(most)):
                plan.check(expected, height, width)


def _filled_up(pieces: Pieces, notes: Notes) -> Pieces:
    """Give silence behind a sound that is shorter than one window."""
    num_samples = 0
    for piece in pieces:
        num_samples += len(piece)
        yield piece
        del piece
    if num_samples < WINDOW_SAMPLES:
        notes.add(
            f"the sound is {num_samples / SAMPLE_RATE:.3f} s long, shorter than the"
            f" {WINDOW_SAMPLES / SAMPLE_RATE:.3f} s that a frame hears; it is filled up with silence"
        )
        yield np.zeros((WINDOW_SAMPLES - num_samples, 2), np.float32)

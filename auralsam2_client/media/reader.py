"""Media in: a video file with its sound track, or a folder of frames with a WAV -> sampled frames and 16 kHz stereo.

Time 0 is the first frame of the video; the sound is padded or trimmed to it. Frame i is the one on display at
start_s + i / fps. Frames are decoded one after the other; only the sampled ones become RGB and stay in memory.
What a player would show is read; what was missing or damaged is counted and noted.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.display import pixel_aspect
from auralsam2_client.media.containers.packets import open_container
from auralsam2_client.media.containers.tracks import Used, sound_track, track_used
from auralsam2_client.media.folders import list_files
from auralsam2_client.media.frames import image_size, list_frames, read_frames
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.sampling import Plan, Progress, sample, starts_too_late
from auralsam2_client.media.sound_reader import read_sound_file, read_track, sound_file_end_s
from auralsam2_client.media.video_reader import VideoReader

MAX_FRAMES = 600
# One frame an hour, to 120 a second.
MIN_FPS, MAX_FPS = 1 / 3600, 120.0
MAX_FRAMES_BYTES = 4 << 30
MAX_SOUND_S = 3600.0

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
    notes: tuple[str, ...] = ()  # what was missing, damaged or filled up, a sentence each
    used: Used | None = None  # of a video file: its tracks, turn and colours
    pixel_aspect: float = 1.0  # width by height of a pixel as it is shown
    files: tuple[str, ...] = ()  # of a folder, the file of each frame

    def facts(self) -> dict[str, Any]:
        """Return what result.json says about the reading: `notes`, and of a video its tracks, rotation and colour."""
        said = {"notes": list(self.notes), "pixel_aspect": self.pixel_aspect}
        return said if self.used is None else {**said, **self.used.as_json()}


def read_media(
    path: str | Path,
    *,
    fps: float = 1.0,
    start_s: float = 0.0,
    max_frames: int | None = None,
    silent: bool = False,
    sound_path: str | Path | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Media:
    """Read a video file, or a folder of images (png, jpg, bmp, webp, tif by name, in natural order) with one WAV in it.

    The last picture is held while the sound of the file goes on, for a minute at most; one picture with sound is held
    as long as it lasts. Sound shorter than one window is filled up with silence. Both are noted.

    Args:
        path: a local file in any usual container, or a folder. The images of a folder are 1 / fps seconds apart.
        fps: frames a second to sample, 1/3600 to 120. A frame is repeated where the video has fewer.
        start_s: time of the first sampled frame in seconds from the first frame of the video, 0 to 3600.
        max_frames: sample at most this many, 1 to 600; the rest of the file is not read. None: all, at most 600.
        silent: read no sound; `Media.sound` is then None.
        sound_path: any file with sound, a video too, that takes the place of the video's track, or is the folder's.
        audio_track, video_track: numbers of the tracks, counted from 1; None for those that players take.
        strict: refuse a file of which anything is missing or damaged, instead of noting it.
        progress: called with (frames sampled, frames expected or None).
    Returns: `Media`.
    Raises: BadInput, and nothing else, for whatever is wrong with an argument or a file.
    """
    location = Path(path)
    if "://" in str(path):
        raise BadInput(f"{path} is an address; only local files are read. Download it first.")
    if silent and (sound_path is not None or audio_track is not None):
        given = "a sound track" if sound_path is None else f"the sound file {sound_path}"
        raise BadInput(f"Both --silent and {given} are given; use one of the two.")
    plan = _plan(location.name or str(location), float(fps), float(start_s), max_frames, progress)
    notes = Notes(plan.source)
    sound_file = None if sound_path is None else Path(sound_path)
    if location.is_dir():
        if video_track is not None:
            raise BadInput(f"--video-track {video_track}, but {path} is a folder of frames. Leave it out.")
        clip = _read_folder(location, plan)
        if not silent:
            sound_file = sound_file or _sound_of_folder(location)
    elif location.is_file():
        clip = _read_video(location, plan, notes, _Tracks(video_track, audio_track, silent, sound_file))
    else:
        what = "is neither a file nor a folder" if location.exists() else "does not exist"
        raise BadInput(f"{path} {what}. Give a video file, or a folder of frames.")
    times_s = plan.start_s + np.arange(len(clip.frames)) / plan.fps
    sound = None
    if not silent:
        until_s = float(times_s[-1]) + 1 / plan.fps + 1
        if until_s > MAX_SOUND_S:
            raise BadInput(
                f"{plan.source}: the frames reach to {times_s[-1]:.0f} s, the sound is read to {MAX_SOUND_S:g} s at "
                "most. Give --max-frames, an earlier --start, or --silent."
            )
        if sound_file is not None:
            sound = read_sound_file(sound_file, until_s, track=audio_track, notes=notes)
        else:
            sound = _read_own_sound(location, clip, audio_track, video_track, until_s, notes)
        sound = _filled_up(sound, notes)
    if strict:
        notes.check_whole()
    return Media(
        frames=clip.frames,
        times_s=times_s,
        fps=plan.fps,
        sound=sound,
        source=str(path),
        duration_s=clip.duration_s,
        notes=tuple(notes.lines),
        used=clip.used,
        pixel_aspect=clip.aspect,
        files=clip.files,
    )


@dataclass(frozen=True, eq=False)
class _Clip:
    """The pictures of a clip."""

    frames: NDArray[np.uint8]
    duration_s: float
    origin_s: float = 0.0  # of the first frame, on the container's clock
    used: Used | None = None
    aspect: float = 1.0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tracks:
    """Which pictures and which sound are wanted."""

    video: int | None
    audio: int | None
    silent: bool
    sound_file: Path | None


def _plan(source: str, fps: float, start_s: float, max_frames: int | None, progress: Progress | None) -> Plan:
    if not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(
            f"fps = {fps}; must be 1/3600 (a frame an hour) to {MAX_FPS:g} frames a second. Use 1 if unsure."
        )
    if not 0 <= start_s <= MAX_SOUND_S:
        raise BadInput(f"start_s = {start_s}; must be 0 to {MAX_SOUND_S:g} s. Cut the video first.")
    if max_frames is not None and not 1 <= max_frames <= MAX_FRAMES:
        raise BadInput(f"max_frames = {max_frames}; must be 1 to {MAX_FRAMES}. Read the rest in a second call.")
    return Plan(source, fps, start_s, max_frames, progress, MAX_FRAMES, MAX_FRAMES_BYTES)


def _read_folder(folder: Path, plan: Plan) -> _Clip:
    paths = list_frames(folder)
    duration_s = len(paths) / plan.fps
    first = math.floor(plan.start_s * plan.fps + 1e-9)
    chosen = paths[first : first + plan.limit]
    if not chosen:
        raise starts_too_late(plan, duration_s)
    plan.check(len(chosen), *image_size(chosen[0]))
    return _Clip(read_frames(chosen, plan.progress), duration_s, files=tuple(path.name for path in chosen))


def _sound_of_folder(folder: Path) -> Path:
    found = list_files(folder, (".wav",))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise BadInput(
            f"Folder {folder} holds {len(found)} WAV files ({names}); exactly 1 is its sound. "
            "Give the sound file by name, or use --silent to go without."
        )
    return found[0]


def _read_video(path: Path, plan: Plan, notes: Notes, tracks: _Tracks) -> _Clip:
    """Read the pictures, from a key frame near the start where that is far; else, or if that fails, from the first."""
    first_packet = 0
    if plan.start_s > _SEEK_BEYOND_S:
        with open_container(path) as container:
            reader = VideoReader(path, container, tracks.video)
            if reader.seek(plan.start_s):
                tried = Notes(notes.name)
                clip = _sampled(reader, container, plan, tried, tracks, sought=True)
                if clip is not None:
                    notes.merge(tried)
                    return clip
        with open_container(path) as container:
            first_packet = VideoReader(path, container, tracks.video).key_before(plan.start_s)
    with open_container(path) as container:
        reader = VideoReader(path, container, tracks.video)
        clip = _sampled(reader, container, plan, notes, tracks, first_packet=first_packet)
        assert clip is not None
        return clip


def _sampled(
    reader: VideoReader,
    container: InputContainer,
    plan: Plan,
    notes: Notes,
    tracks: _Tracks,
    *,
    first_packet: int = 0,
    sought: bool = False,
) -> _Clip | None:
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

    frames = sample(reader, plan, notes, sound_end_s, first_packet=first_packet, sought=sought)
    if frames is None:
        return None
    assert reader.colour is not None
    used = Used(
        track_used(container, reader.stream),
        None if heard is None else track_used(container, heard),
        reader.orientation,
        reader.colour,
    )
    aspect = pixel_aspect(reader.stream.sample_aspect_ratio, reader.orientation)
    return _Clip(frames, reader.duration_s, reader.origin_s or 0.0, used, aspect)


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


def _read_own_sound(
    path: Path, clip: _Clip, audio_track: int | None, video_track: int | None, until_s: float, notes: Notes
) -> NDArray[np.float32]:
    with open_container(path) as container:
        reader = VideoReader(path, container, video_track)
        track = sound_track(container, str(path), audio_track, reader.stream)
        return read_track(container, track, str(path), clip.origin_s, until_s, notes)


def _filled_up(sound: NDArray[np.float32], notes: Notes) -> NDArray[np.float32]:
    missing = WINDOW_SAMPLES - len(sound)
    if missing <= 0:
        return sound
    notes.add(
        f"the sound is {len(sound) / SAMPLE_RATE:.3f} s long, shorter than the {WINDOW_SAMPLES / SAMPLE_RATE:.3f} s "
        "that a frame hears; it is filled up with silence"
    )
    return np.pad(sound, ((0, missing), (0, 0)))

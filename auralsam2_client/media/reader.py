"""Media in: a video file with its sound track, or a folder of frames with a WAV -> sampled frames and 16 kHz stereo.

Time 0 is the first frame of the video; the sound is padded or trimmed to it. Frame i is the one on display at
start_s + i / fps. Frames are decoded one after the other; only the sampled ones become RGB and stay in memory.
What a player would show is read; what was missing or damaged is counted and noted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.media.containers.tracks import Used
from auralsam2_client.media.reading import open_media
from auralsam2_client.media.sampling import Progress


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
        return facts_of(self.notes, self.pixel_aspect, self.used)


def facts_of(notes: Sequence[str], pixel_aspect: float, used: Used | None) -> dict[str, Any]:
    """Put together what result.json says about a reading; see `Media.facts`."""
    said = {"notes": list(notes), "pixel_aspect": pixel_aspect}
    return said if used is None else {**said, **used.as_json()}


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
    reading = open_media(
        path,
        fps=fps,
        start_s=start_s,
        max_frames=max_frames,
        silent=silent,
        sound_path=sound_path,
        audio_track=audio_track,
        video_track=video_track,
        progress=progress,
    )
    frames, plan, found, notes = _stack(list(reading.frames)), reading.plan, reading.found, reading.notes
    sound = reading.read_sound(reading.sound_until_s(len(frames)), notes)
    if strict:
        notes.check_whole()
    return Media(
        frames=frames,
        times_s=plan.start_s + np.arange(len(frames)) / plan.fps,
        fps=plan.fps,
        sound=sound,
        source=reading.source,
        duration_s=found.duration_s,
        notes=tuple(notes.lines),
        used=found.used,
        pixel_aspect=found.aspect,
        files=reading.files,
    )


def _stack(sampled: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """As np.stack, but gives each frame back as soon as it is copied, so that the clip lies in memory once."""
    frames = np.empty((len(sampled), *sampled[0].shape), np.uint8)
    for index in reversed(range(len(sampled))):
        frames[index] = sampled.pop()
    return frames

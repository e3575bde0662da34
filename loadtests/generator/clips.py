"""Where the clips of a load test come from. They are read and resized once, before the first request.

`procedural` (or `procedural:12`) makes them up; `file:PATH` cuts a video into clips; `avsbench:FOLDER` takes the
clips of a data set in AVSBench's layout, each with its own sound.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.wire import ClipShape, fit_clip
from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound_windows import windows

NUM_PROCEDURAL = 8
MAX_CLIPS = 64


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as it goes over the wire."""

    name: str
    frames: NDArray[np.uint8]  # [T, S, S, 3]
    audio: NDArray[np.float32]  # [T, 15600, 2]


def load_clips(source: str, shape: ClipShape, limit: int = MAX_CLIPS) -> list[Clip]:
    """Load clips of a source, at most `limit`. Raises: BadInput when it is unknown or empty, or a file is bad."""
    kind, _, rest = source.partition(":")
    if kind == "procedural":
        return procedural(shape, min(limit, int(rest) if rest.isdigit() else NUM_PROCEDURAL))
    if kind == "file" and rest:
        return from_file(Path(rest), shape, limit)
    if kind == "avsbench" and rest:
        return from_avsbench(Path(rest), shape, limit)
    raise BadInput(f"source = {source!r}; must be procedural, procedural:COUNT, file:PATH or avsbench:FOLDER.")


def procedural(shape: ClipShape, count: int = NUM_PROCEDURAL, seed: int = 8) -> list[Clip]:
    """Make discs that drift over noise, each with a tone whose pitch goes with its colour. A seed fixes all."""
    random = np.random.default_rng(seed)
    T, S = shape.num_frames, shape.image_size
    row, column = np.mgrid[:S, :S]
    time_s = np.arange(WINDOW_SAMPLES) / SAMPLE_RATE
    clips = []
    for number in range(count):
        frames = random.integers(0, 80, (T, S, S, 3), dtype=np.uint8)
        hue, start, step = random.integers(80, 256, 3), random.uniform(0.2, 0.8, 2), random.uniform(-0.06, 0.06, 2)
        for index in range(T):
            y, x = S * (start + index * step)
            frames[index][(row - y) ** 2 + (column - x) ** 2 < (S / 6) ** 2] = hue
        tone = 0.4 * np.sin(2 * np.pi * float(hue.sum()) * time_s)
        audio = np.broadcast_to(tone[None, :, None], (T, WINDOW_SAMPLES, 2)).astype(np.float32)
        clips.append(Clip(f"procedural-{number}", frames, np.ascontiguousarray(audio)))
    return clips


def from_file(path: Path, shape: ClipShape, limit: int = MAX_CLIPS) -> list[Clip]:
    """Cut a video, one frame a second, into clips of T frames; a short rest is filled up with its last frame."""
    media, T = read_media(path), shape.num_frames
    clips = []
    for start in range(0, len(media.frames), T)[:limit]:
        frames = media.frames[start : start + T]
        heard = windows(media.sound, len(frames), media.fps, float(media.times_s[start]))
        clips.append(Clip(f"{path.name}-{start}", *fit_clip(frames, heard.samples, shape)))
    return clips


def from_avsbench(root: Path, shape: ClipShape, limit: int = MAX_CLIPS) -> list[Clip]:
    """Read the clips of a folder in AVSBench's layout, `<subset>/<uid>/frames` with `audio.wav`; needs no labels."""
    folders = sorted(path.parent for path in root.glob("*/*/frames") if (path.parent / "audio.wav").is_file())
    if not folders:
        raise BadInput(
            f"{root} holds no <subset>/<uid>/frames with an audio.wav beside it. Give the folder that AVSBench was"
            " unpacked into."
        )
    clips = []
    for folder in folders[:limit]:
        media = read_media(folder / "frames", sound_path=folder / "audio.wav", max_frames=shape.num_frames)
        heard = windows(media.sound, len(media.frames))
        clips.append(Clip(f"{folder.parent.name}/{folder.name}", *fit_clip(media.frames, heard.samples, shape)))
    return clips

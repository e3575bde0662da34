"""Makes small real clips for the tests: frame i is a flat grey of value 8 i, so that a frame tells its own index."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

STEP = 8
# Of a film: whole AAC frames at 48 kHz.
FILM_S = 249 * 1024 / 48_000


def grey_frames(num_frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), STEP * (index % 32), np.uint8) for index in range(num_frames)]


def index_of(frame: np.ndarray) -> int:
    """Which of `grey_frames` this decoded frame is."""
    return round(float(frame.mean()) / STEP)


def tone(seconds: float, rate: int = 16_000, channels: int = 2, hz: float = 440.0) -> np.ndarray:
    """[n, channels] float32; silent first half second, so that an offset shows."""
    time_s = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hz * time_s) * (time_s >= 0.5)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 10,
    pts: Sequence[int] | None = None,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    sound_start_s: float = 0.0,
    layout: str = "stereo",
    rotation: int | None = None,
    faststart: bool = False,
    sound_codec: str = "aac",
    container: str | None = None,
) -> Path:
    """Write frames [H, W, 3] at `rate` (or at pts / 1000 s) and sound [n, C] as H.264 and `sound_codec`.

    A sound of 0 samples makes a track without a packet; None makes no track.
    """
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", format=container, options=options) as output:
        video = output.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "ultrafast"})
        video.pix_fmt = "yuv420p"
        if pts is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio = None
        if sound is not None:
            audio = output.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for index, array in enumerate(frames):
            if index == 0:
                video.height, video.width = array.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None and sound is not None:
            for start in range(0, len(sound), 1024):
                block = sound[start : start + 1024]
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=layout)
                frame.sample_rate = sound_rate
                frame.time_base = Fraction(1, sound_rate)
                frame.pts = start + round(sound_start_s * sound_rate)
                output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
    return path


def write_folder(folder: Path, num_frames: int, sound: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(grey_frames(num_frames)):
        Image.fromarray(frame).save(folder / f"{index:04d}.png")
    if sound is not None:
        soundfile.write(folder / "sound.wav", sound, 16_000, subtype="FLOAT")
    return folder


def write_film(path: Path) -> Path:
    """Write 720p at 25 frames a second with 5.1 sound at 48 kHz, as films come; 5.312 s."""
    frames = grey_frames(round(FILM_S * 25), 720, 1280)
    return write_clip(path, frames, rate=25, sound=tone(FILM_S, 48_000, 6), sound_rate=48_000, layout="5.1")

"""A long video for the bench: one drawn minute of 25 frames a second with sound, laid end to end; made once."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from auralsam2_client.new_file import new_file

RATE, SOUND_RATE, BLOCK = 25, 48_000, 1024
# Closed groups of two seconds, so that pieces join; whole blocks of AAC make a piece of 16 s.
PIECE_S = 16
_OPTIONS = {"crf": "23", "preset": "medium", "threads": "1", "g": "50", "flags": "+cgop"}


def long_video(path: Path, seconds: int, width: int = 640, height: int = 360) -> Path:
    """Make a video of at least so many seconds, unless it is there."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as partial, tempfile.TemporaryDirectory() as folder:
        piece = Path(folder) / "piece.mp4"
        _write_piece(piece, width, height)
        _repeat(piece, partial, -(-seconds // PIECE_S))
    return path


def _pictures(width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """A disc that drifts over a moving ground, with a sensor's noise."""
    random = np.random.default_rng(20)
    noise = random.integers(-4, 5, (5, height, width, 1), np.int16)
    y, x = np.mgrid[:height, :width]
    ground = np.stack([(y * step % 200 + x // (3 + step)) % 220 for step in (1, 2, 3)], axis=-1).astype(np.int16)
    for index in range(PIECE_S * RATE):
        picture = np.roll(ground, index // 2, axis=1)
        middle = width * (0.5 + 0.3 * np.sin(index / 30)), height * (0.5 + 0.3 * np.cos(index / 40))
        picture[np.hypot(x - middle[0], y - middle[1]) < height / 6] = (220, 60, 90)
        yield np.clip(picture + noise[index % len(noise)], 0, 255).astype(np.uint8)


def _write_piece(partial: Path, width: int, height: int) -> None:
    with av.open(str(partial), "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=RATE, options=_OPTIONS)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = output.add_stream("aac", rate=SOUND_RATE, layout="stereo", bit_rate=128_000)
        for number, picture in enumerate(_pictures(width, height)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        time_s = np.arange(PIECE_S * SOUND_RATE) / SOUND_RATE
        tone = (0.3 * np.sin(2 * np.pi * 440 * time_s) * (np.sin(time_s) > 0)).astype(np.float32)
        for first in range(0, len(tone), BLOCK):
            sound = av.AudioFrame.from_ndarray(np.stack([tone[first : first + BLOCK]] * 2), "fltp", "stereo")
            sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, first, Fraction(1, SOUND_RATE)
            output.mux(audio.encode(sound))
        output.mux(audio.encode(None))


def _repeat(piece: Path, partial: Path, times: int) -> None:
    """Lay a piece end to end, without encoding it again."""
    with av.open(str(piece)) as source, av.open(str(partial), "w", format="mp4") as output:
        packets = [(each, bytes(each), each.pts, each.dts) for each in source.demux() if each.size]
        tracks = {each.index: output.add_stream_from_template(each) for each in source.streams}
        for number in range(times):
            for packet, content, pts, dts in packets:
                # What an encoder puts before the beginning is there once.
                if pts is None or dts is None or packet.time_base is None or pts < 0:
                    continue
                moved = av.Packet(content)
                moved.time_base, moved.duration = packet.time_base, packet.duration or 0
                behind = round(number * PIECE_S / packet.time_base)
                moved.pts, moved.dts, moved.is_keyframe = pts + behind, dts + behind, packet.is_keyframe
                moved.stream = tracks[packet.stream.index]
                output.mux(moved)

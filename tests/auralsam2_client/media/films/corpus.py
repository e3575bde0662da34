"""A corpus of small clips, drawn at random: containers, codecs, layouts, matrices, frame rates, colours, damage.

What a player would show of each is known by construction: the number in the picture and the pitch of the second.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hypothesis import strategies as st

from tests.auralsam2_client.media.films import filming, telling

UPRIGHT = (1, 0, 0, 1)
MATRICES = [UPRIGHT, (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]
MATRICES += [(0, -1, -1, 0)]
RATES = [Fraction(12), Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(50)]
SECONDS = 3
GOP = 10

# Codecs of pictures with the pixels they take, by the least that each needs; all but two have pictures between keys.
VIDEO = {
    "libx264": ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray"],
    "mpeg4": ["yuv420p"],
    "mpeg2video": ["yuv420p", "yuv422p"],
    "mjpeg": ["yuvj420p", "yuvj444p"],
    "ffv1": ["yuv420p", "yuv444p10le", "bgr0", "gray"],
}
KEYS_ALONE = ("mjpeg", "ffv1")
# Codecs of sound with the samples they take and the layouts they know.
SOUND = {
    "aac": ("fltp", ["mono", "stereo", "5.1", "7.1"]),
    "mp2": ("s16p", ["mono", "stereo"]),
    "ac3": ("fltp", ["stereo", "5.1"]),
    "libopus": ("flt", ["mono", "stereo", "5.1", "7.1"]),
    "flac": ("s16", ["stereo", "5.1", "7.1"]),
    "pcm_s16le": ("s16", ["mono", "stereo", "quad", "6.1", "7.1"]),
    "pcm_f32le": ("flt", ["stereo", "7.1"]),
}
CONTAINERS = {
    "mp4": (["libx264", "mpeg4"], ["aac", "ac3", "libopus", "flac"]),
    "mov": (["libx264", "mpeg4", "mjpeg"], ["aac", "ac3", "pcm_s16le", "pcm_f32le"]),
    "matroska": (list(VIDEO), list(SOUND)),
    "nut": (["libx264", "mjpeg", "ffv1"], ["aac", "mp2", "ac3", "pcm_s16le"]),
    "mpegts": (["libx264", "mpeg2video"], ["aac", "mp2", "ac3"]),
    "flv": (["libx264"], ["aac"]),
}
DAMAGE = ["none", "none", "a packet of the video", "a packet of the sound", "broken off"]


@dataclass(frozen=True)
class Case:
    """One clip, and how it is read."""

    container: str
    video: str
    pixel_format: str
    sound: str
    layout: str
    matrix: tuple[int, int, int, int]
    rate: Fraction
    damage: str
    start_s: float

    @property
    def num_pictures(self) -> int:
        return round(SECONDS * self.rate)

    @property
    def damaged_picture(self) -> int:
        """The picture whose packet is spoilt: the second behind a key frame that follows the first second."""
        return int(self.rate) // GOP * GOP + GOP + 1

    def expected(self) -> tuple[list[float], list[int], list[int]]:
        """When frames are taken, which pictures they show, and which second they hear."""
        times_s = [self.start_s + index for index in range(SECONDS) if self.start_s + index < SECONDS - 0.05]
        return times_s, [int(time_s * self.rate + Fraction(1, 1000)) for time_s in times_s], [int(t) for t in times_s]

    def write(self, folder: Path) -> Path:
        """Write the clip, broken as the case says."""
        path = folder / f"clip.{self.container}"
        sample_format, _ = SOUND[self.sound]
        options = filming.X264 if self.video == "libx264" else {}
        recipe = filming.Recipe(
            self.video,
            self.sound,
            self.pixel_format,
            sample_format,
            GOP,
            options,
            self.container,
            {"movflags": "+faststart"} if self.container in ("mp4", "mov") else {},
            None if self.video in ("libx264", "ffv1") else 3_000_000,
        )
        channels = len(telling.channel_names(self.layout))
        sound = telling.pitches(SECONDS, channels=channels) * telling.as_loud_as_stereo(self.layout)
        shown = (telling.stored_for(telling.picture(index), *self.matrix) for index in range(self.num_pictures))
        filming.write(path, shown, sound, recipe, fps=self.rate, layout=self.layout)
        if self.matrix != UPRIGHT:
            a, b, c, d = (number << 16 for number in self.matrix)
            value = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
            filming.patched(path, path, b"tkhd", 44, value)
        if self.damage == "a packet of the video":
            filming.spoilt(path, path, "video", self.damaged_picture)
        elif self.damage == "a packet of the sound":
            filming.spoilt(path, path, "audio", len(filming.packet_places(path, "audio")) // 2)
        elif self.damage == "broken off":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * 7 // 10])
        return path


@st.composite
def cases(draw: st.DrawFn) -> Case:
    container = draw(st.sampled_from(list(CONTAINERS)))
    videos, sounds = CONTAINERS[container]
    video, sound = draw(st.sampled_from(videos)), draw(st.sampled_from(sounds))
    rate = draw(st.sampled_from(RATES[2:] if video == "mpeg2video" else RATES))
    # Only boxes of MP4 and MOV have a matrix; and only of them and NUT a packet's place is that of its content.
    matrix = draw(st.sampled_from(MATRICES)) if container in ("mp4", "mov") else UPRIGHT
    damage = draw(st.sampled_from(DAMAGE)) if container in ("mp4", "mov") else "none"
    return Case(
        container,
        video,
        draw(st.sampled_from(VIDEO[video])),
        sound,
        draw(st.sampled_from(SOUND[sound][1])),
        matrix,
        rate,
        damage,
        draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.4])),
    )

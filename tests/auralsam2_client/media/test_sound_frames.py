"""Decoded sound of every layout: heard on its side, and no layout ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import filming, telling

# Layout, codec, samples, container, and a channel that is heard on the right.
LAYOUTS = [
    ("7.1", "aac", "fltp", "mp4", "BR"),
    ("7.1", "libopus", "flt", "matroska", "SR"),
    ("7.1", "flac", "s16", "matroska", "BR"),
    ("7.1(wide)", "aac", "fltp", "matroska", "FRC"),
    ("6.1", "aac", "fltp", "matroska", "SR"),
    ("5.1", "ac3", "fltp", "mpegts", "BR"),
    ("quad", "pcm_s16le", "s16", "mov", "BR"),
    ("7.1.4", "pcm_s16le", "s16", "mov", "TBR"),
    ("hexadecagonal", "pcm_s16le", "s16", "mov", "WR"),
    ("22.2", "pcm_f32le", "flt", "mp4", "TFR"),
]
READ = """
import sys
import numpy as np
from auralsam2_client.media.reader import read_media
np.savez(sys.argv[1], *(read_media(path).sound for path in sys.argv[2:]))
"""

KEEP = """
import gc, sys
import av
from auralsam2_client.media.sound_frames import keep_layout, samples_of
with av.open(sys.argv[1]) as opened:
    for frame in opened.decode(opened.streams.audio[0]):
        keep_layout(frame)
        assert samples_of(frame).shape == (frame.samples, 7)
        del frame
        gc.collect()
"""


def clip(path: Path, layout: str, codec: str, sample_format: str, container: str, sound: telling.Sound) -> Path:
    recipe = filming.Recipe(audio=codec, sample_format=sample_format, container=container)
    return filming.write(path, map(telling.picture, range(50)), sound, recipe, layout=layout)


@pytest.mark.parametrize(("layout", "codec", "sample_format", "container", "right"), LAYOUTS)
def test_each_channel_is_heard_on_its_side(
    tmp_path: Path, layout: str, codec: str, sample_format: str, container: str, right: str
) -> None:
    sound = telling.placed(layout, 2, FL=700, **{right: 2500})
    found = read_media(clip(tmp_path / "film", layout, codec, sample_format, container, sound))
    assert telling.numbers(found) == [0, 25]
    assert telling.sides(found) == [700, 2500]


@pytest.mark.parametrize("count", [9, 12, 16, 24])
def test_channels_without_a_place_are_heard_in_the_middle(tmp_path: Path, count: int) -> None:
    sound = telling.placed(f"{count} channels", 2, NONE=700)
    path = clip(tmp_path / "tracks.mkv", f"{count} channels", "pcm_s16le", "s16", "matroska", sound)
    assert telling.sides(read_media(path)) == [700, 700]


def test_a_lone_low_channel_is_heard(tmp_path: Path) -> None:
    """Studios keep each channel in a file of its own; one that holds the LFE alone plays everywhere."""
    sound = telling.placed("1 channels (LFE)", 2, LFE=700)
    found = read_media(clip(tmp_path / "a.mov", "1 channels (LFE)", "pcm_s16le", "s16", "mov", sound))
    assert telling.sides(found) == [700, 700]


# Layout, QuickTime's tag, the order that it states, by the names that the layout has for its channels.
TAGS = [
    ("6.1", 125, "FL FR FC LFE SL SR BC", "SR"),
    ("5.1", 124, "FC FL FR BL BR LFE", "BR"),
    ("7.1", 128, "FL FR FC LFE SL SR BL BR", "BR"),
]


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sounds whose channels are ordered by a QuickTime tag; front left has 700 Hz, one on the right 2500."""
    folder = tmp_path_factory.mktemp("tagged")
    paths = []
    for layout, tag, order, right in TAGS:
        names = telling.channel_names(layout)
        sound = telling.placed(layout, 2, FL=700, **{right: 2500})[:, [names.index(name) for name in order.split()]]
        plain = clip(folder / f"plain{tag}.mov", layout, "pcm_s16le", "s16", "mov", sound)
        value = (tag << 16 | len(names)).to_bytes(4, "big") + bytes(4)
        paths.append(filming.patched(plain, folder / f"tagged{tag}.mov", b"chan", 8, value))
    return paths


def run_apart(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: the double free that is guarded against ends whatever reads."""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=paths, capture_output=True, text=True, timeout=120, check=False)


def test_the_order_of_a_quicktime_tag_leaves_the_process_alive(tagged: list[Path], tmp_path: Path) -> None:
    ran = run_apart(READ, tmp_path / "read.npz", *tagged)
    assert ran.returncode == 0, ran.stderr
    with np.load(tmp_path / "read.npz") as found:
        for sound in found.values():
            halves = [telling.loudest_hertz(sound[4000:-4000, side]) for side in (0, 1)]
            assert halves == [pytest.approx(700, abs=5), pytest.approx(2500, abs=5)]


def test_an_order_that_comes_up_later_leaves_the_process_alive(tagged: list[Path]) -> None:
    ran = run_apart(KEEP, tagged[0])
    assert ran.returncode == 0, ran.stderr


def test_sound_that_changes_its_layout(tmp_path: Path) -> None:
    stereo = filming.write_sound(tmp_path / "2.ac3", telling.pitches(4), "ac3", "ac3", "fltp", bit_rate=192_000)
    front = telling.pitches(4, first_s=4)[:, 0]
    surround = np.zeros((len(front), 6), np.float32)
    surround[:, 0] = surround[:, 1] = front
    six = filming.write_sound(tmp_path / "6.ac3", surround, "ac3", "ac3", "fltp", layout="5.1", bit_rate=384_000)
    joined = tmp_path / "joined.ac3"
    joined.write_bytes(stereo.read_bytes() + six.read_bytes() + stereo.read_bytes())
    video = filming.film(tmp_path / "video.mp4", 12, silent=True)
    recording = filming.remux(tmp_path / "recording.ts", [(video, "video"), (joined, "audio")])
    found = read_media(recording)
    assert telling.seconds(found) == [*range(8), *range(4)]


def test_sound_that_changes_its_rate(tmp_path: Path) -> None:
    parts = [
        filming.write_sound(tmp_path / f"{rate}.mp2", telling.pitches(3, first, rate), "mp2", "mp2", "s16p", rate=rate)
        for first, rate in ((0, 48_000), (3, 32_000), (6, 44_100))
    ]
    joined = tmp_path / "joined.mp2"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    mute = filming.film(tmp_path / "mute.mp4", 9, silent=True)
    assert telling.seconds(read_media(mute, sound_path=joined, audio_track=1)) == list(range(9))

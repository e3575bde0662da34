"""Sound that outlasts the pictures, one picture with sound, and sound shorter than a window."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from auralsam2_client.contract import WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media import sampling
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound_windows import windows
from tests.auralsam2_client.media.films import filming, telling

CHANGES_S = [0.0, 0.1, 0.2, 1.7, 3.4]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen recording: a picture only when something changes, and sound to second 8."""
    path = tmp_path_factory.mktemp("screen") / "screen.mp4"
    return filming.write(path, map(telling.picture, range(5)), telling.pitches(8), fps=30, times_s=CHANGES_S)


def test_the_last_picture_is_held_while_the_sound_goes_on(screen: Path) -> None:
    found = read_media(screen)
    assert telling.numbers(found) == [0, 2, 3, 3, 4, 4, 4, 4]
    assert telling.seconds(found) == list(range(8))
    assert len(found.notes) == 1
    assert re.search(r"the last picture is held from 3\.\d+ s to 8\.\d+ s", found.notes[0])
    assert read_media(screen, strict=True).notes == found.notes
    assert telling.numbers(read_media(screen, start_s=6.0)) == [4, 4]
    assert telling.numbers(read_media(screen, silent=True)) == [0, 2, 3, 3]
    assert read_media(screen, max_frames=3).notes == ()


def test_sound_far_longer_than_the_video_is_another_thing(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_HELD_S", 3.0)
    found = read_media(screen)
    assert telling.numbers(found) == [0, 2, 3, 3]
    assert re.search(r"the sound outlasts the last picture by \d s; the clip ends with the video", found.notes[0])


@pytest.mark.parametrize("more_s", [0.0, 0.09])
def test_the_padding_of_a_codec_adds_no_frame(tmp_path: Path, more_s: float) -> None:
    shown = map(telling.picture, range(50))
    found = read_media(filming.write(tmp_path / "a.mkv", shown, telling.pitches(2 + more_s), filming.USUAL))
    assert (telling.numbers(found), found.notes) == ([0, 25], ())


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_one_picture_with_sound_is_held(tmp_path: Path, container: str) -> None:
    recipe = filming.Recipe(container=container)
    still = filming.write(tmp_path / "still", [telling.picture(3)], telling.pitches(6), recipe)
    found = read_media(still)
    assert (telling.numbers(found), telling.seconds(found)) == ([3] * 6, list(range(6)))
    with pytest.raises(BadInput, match=r"1 frame without sound.*--sound"):
        read_media(still, silent=True)


def test_one_picture_is_held_longer_than_a_minute_and_under_another_sound(tmp_path: Path) -> None:
    song = filming.write_sound(
        tmp_path / "song.mp3", telling.pitches(70, rate=16_000), "libmp3lame", "mp3", "s16p", rate=16_000
    )
    still = filming.write(tmp_path / "still.mp4", [telling.picture(3)], None)
    assert telling.numbers(read_media(still, sound_path=song)) == [3] * 70


def test_another_sound_makes_no_film_longer(film: Path, tmp_path: Path) -> None:
    song = filming.write_sound(tmp_path / "song.wav", telling.pitches(12), "pcm_s16le", "wav", "s16")
    assert len(read_media(film, sound_path=song).frames) == 7


def test_the_cover_of_a_song_is_held(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as output:
        track = output.add_stream("libmp3lame", rate=telling.RATE, layout="stereo")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 80, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(telling.picture(9), format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        output.mux([*cover.encode(frame), *cover.encode(None)])
        sound = telling.pitches(4)
        filming.feed(output, track, sound, 0, len(sound), "stereo", telling.RATE, filming.Recipe(sample_format="s16p"))
        output.mux(track.encode(None))
    found = read_media(path)
    assert (telling.numbers(found), telling.seconds(found)) == ([9] * 4, list(range(4)))


def test_less_sound_than_one_window_is_filled_up_with_silence(tmp_path: Path) -> None:
    found = read_media(filming.film(tmp_path / "short.mp4", 0.6))
    assert telling.numbers(found) == [0]
    heard = windows(found.sound, 1).samples[0]
    assert telling.loudest_hertz(heard[:9000, 0]) == pytest.approx(400, abs=5)
    assert heard.shape == (WINDOW_SAMPLES, 2)
    assert np.abs(heard[11_000:]).max() < 0.02
    assert re.search(r"the sound is 0\.6\d\d s long, shorter than the 0\.975 s.*filled up with silence", found.notes[0])

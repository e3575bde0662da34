"""Which of several tracks is read: the one that players take, or the one that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import filming, telling

PASSTHROUGH = {"default_mode": "passthrough"}


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film whose sound is silence."""
    silence = np.zeros((3 * telling.RATE, 2), np.float32)
    shown = (telling.picture(500 + index) for index in range(75))
    return filming.write(tmp_path_factory.mktemp("mute") / "mute.mp4", shown, silence)


@pytest.fixture(scope="module")
def many(film: Path, mute: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and two sounds, of which the second is the default one each."""
    path = tmp_path_factory.mktemp("many") / "many.mkv"
    sources = [(mute, "video"), (film, "video"), (mute, "audio"), (film, "audio")]
    return filming.remux(path, sources, defaults=[False, True, False, True], options=PASSTHROUGH)


def test_the_default_tracks_are_read(many: Path) -> None:
    found = read_media(many)
    assert telling.numbers(found) == list(range(0, 175, 25))
    assert telling.seconds(found) == list(range(7))
    tracks = {"video": {"track": 2, "of": 2, "codec": "h264"}, "sound": {"track": 2, "of": 2, "codec": "aac"}}
    assert found.facts()["tracks"] == tracks


def test_tracks_by_number(many: Path) -> None:
    assert telling.numbers(read_media(many, video_track=1, silent=True)) == [500, 525, 550]
    assert telling.numbers(read_media(many, video_track=2, silent=True))[:2] == [0, 25]
    assert telling.seconds(read_media(many, audio_track=1))[:2] == [None, None]
    heard = read_media(many, audio_track=2, video_track=1)
    assert telling.numbers(heard)[:3] == [500, 525, 550]
    assert telling.seconds(heard)[:3] == [0, 1, 2]


def test_a_number_beyond_the_tracks(many: Path, film: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--audio-track 3, but .* has 2 sound tracks"):
        read_media(many, audio_track=3)
    with pytest.raises(BadInput, match=r"--video-track 0, but .* has 1 video track, counted from 1"):
        read_media(film, video_track=0)
    with pytest.raises(BadInput, match="Both --silent and a sound track"):
        read_media(film, silent=True, audio_track=1)
    with pytest.raises(BadInput, match=r"--video-track 1, but .* is a folder"):
        read_media(tmp_path, video_track=1)


def test_a_film_goes_before_its_thumbnail(film: Path, tmp_path: Path) -> None:
    jpeg = filming.Recipe(video="mjpeg", pixel_format="yuvj420p", video_options={})
    thumbnail = filming.write(tmp_path / "thumbnail.mov", [telling.picture(777)], None, jpeg)
    drone = filming.remux(tmp_path / "drone.mov", [(thumbnail, "video"), (film, "video"), (film, "audio")])
    found = read_media(drone)
    assert telling.numbers(found) == list(range(0, 175, 25))
    assert found.facts()["tracks"]["video"]["track"] == 2
    still = read_media(drone, video_track=1)
    assert telling.numbers(still) == [777] * 7

"""A film that is streamed tells what was missing or damaged as one that is read, and has the same frames and sound."""

from pathlib import Path
from typing import Any

import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.media.clips import cut_clips
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.streaming import MediaStream
from tests.auralsam2_client.media.films import filming, telling

T = 4


def assert_told_alike(path: Path, **wanted: Any) -> tuple[str, ...]:
    media = read_media(path, **wanted)
    with MediaStream(path, **wanted) as stream:
        clips = list(stream.clips(T))
    for found, read in zip(clips, cut_clips(media, T), strict=True):
        assert found.frames.tobytes() == read.frames.tobytes()
        assert found.heard.samples.tobytes() == read.heard.samples.tobytes()
    assert (stream.notes, stream.facts()) == (media.notes, media.facts())
    assert stream.pixel_aspect == media.pixel_aspect
    return media.notes


@pytest.mark.parametrize(("kind", "nth"), [("video", 60), ("audio", 100)])
def test_damage_is_told_and_refused_at_the_end_if_strict(film: Path, tmp_path: Path, kind: str, nth: int) -> None:
    clip = filming.spoilt(film, tmp_path / "bad.mp4", kind, nth, 2)
    (note,) = assert_told_alike(clip)
    with (
        MediaStream(clip, strict=True) as stream,
        pytest.raises(BadInput, match=r"bad\.mp4 is not whole: 2 packets.*--strict"),
    ):
        list(stream.clips(T))
    assert "2 packets" in note


def test_damage_of_the_sound_past_the_last_frame_is_not_told(film: Path, tmp_path: Path) -> None:
    clip = filming.spoilt(film, tmp_path / "bad.mp4", "audio", 150)
    assert assert_told_alike(clip, max_frames=2) == ()
    assert assert_told_alike(clip) != ()


def test_the_last_picture_is_held_and_its_sound_is_read(tmp_path: Path) -> None:
    screen = filming.write(
        tmp_path / "screen.mp4", map(telling.picture, range(3)), telling.pitches(20), fps=30, times_s=[0.0, 0.5, 1.4]
    )
    (note,) = assert_told_alike(screen)
    assert "is held" in note


def test_one_picture_under_its_sound(tmp_path: Path) -> None:
    still = filming.write(tmp_path / "still.mp4", [telling.picture(3)], telling.pitches(6))
    assert assert_told_alike(still) != ()
    assert assert_told_alike(still, start_s=5.5, fps=4.0) != ()


def test_tracks_are_chosen_alike(film: Path) -> None:
    assert assert_told_alike(film, video_track=1, audio_track=1, start_s=5.2) == ()
    with pytest.raises(BadInput, match="--audio-track 7"):
        MediaStream(film, audio_track=7)

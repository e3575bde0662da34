"""Reading clips: which frame is taken when, and how the sound is laid beside it."""

import numpy as np
import pytest
import soundfile

from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media import reading as media
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound_windows import windows


def onset_s(sound: np.ndarray) -> float:
    """When the tone of `clips.tone` begins, which is 0.5 s into the track."""
    return float(np.argmax(np.abs(sound[:, 0]) > 0.1)) / 16_000


def indices(clips, found) -> list[int]:
    return [clips.index_of(frame) for frame in found.frames]


def test_a_clip_is_sampled_once_a_second(clips, clip):
    seen = []
    found = read_media(clip, progress=lambda done, expected: seen.append((done, expected)))
    assert found.frames.shape == (3, 48, 64, 3)
    assert found.frames.dtype == np.uint8
    assert indices(clips, found) == [0, 10, 20]
    np.testing.assert_array_equal(found.times_s, [0.0, 1.0, 2.0])
    assert (found.fps, found.source) == (1.0, str(clip))
    assert found.duration_s == pytest.approx(3.0, abs=0.01)
    assert found.sound.dtype == np.float32
    assert abs(len(found.sound) - 48_000) <= 2048  # AAC comes in blocks
    assert onset_s(found.sound) == pytest.approx(0.5, abs=0.01)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"fps": 10.0}, list(range(30))),
        ({"fps": 4.0, "start_s": 1.0}, [10, 12, 15, 17, 20, 22, 25, 27]),
        ({"fps": 30.0, "max_frames": 7}, [0, 0, 0, 1, 1, 1, 2]),
        ({"start_s": 0.55}, [5, 15, 25]),
        ({"max_frames": 2}, [0, 10]),
    ],
)
def test_the_frame_on_display_is_taken(clips, clip, wanted, expected):
    found = read_media(clip, silent=True, **wanted)
    assert indices(clips, found) == expected
    np.testing.assert_allclose(found.times_s, wanted.get("start_s", 0) + np.arange(len(expected)) / found.fps)


def test_a_late_start_seeks_to_the_same_frames(clips, tmp_path, monkeypatch):
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(30), sound=clips.tone(3.0))
    decoded = read_media(path, start_s=1.3, fps=5.0, silent=True)
    monkeypatch.setattr(media, "_SEEK_BEYOND_S", 0.0)
    sought = read_media(path, start_s=1.3, fps=5.0, silent=True)
    assert indices(clips, decoded) == [13, 15, 17, 19, 21, 23, 25, 27, 29]
    np.testing.assert_array_equal(sought.frames, decoded.frames)


def test_a_stream_without_timestamps_or_duration_is_read_at_its_rate(clips, tmp_path, monkeypatch):
    path = clips.write_clip(tmp_path / "raw.h264", clips.grey_frames(50), rate=25, container="h264")
    monkeypatch.setattr(media, "_SEEK_BEYOND_S", 0.0)
    found = read_media(path, fps=5.0, start_s=0.2, silent=True)
    assert indices(clips, found) == [5, 10, 15, 20, 25, 30, 3, 8, 13]  # greys repeat after 32


def test_variable_frame_rate_goes_by_timestamps(clips, tmp_path):
    path = clips.write_clip(tmp_path / "a.mkv", clips.grey_frames(5), pts=[0, 400, 1100, 1900, 3000], rate=10)
    found = read_media(path, silent=True)
    assert indices(clips, found)[:4] == [0, 1, 3, 4]


@pytest.mark.parametrize("container", ["a.mkv", "a.ts", "a.avi", "a.mov", "a.flv"])
def test_other_containers(clips, tmp_path, container):
    sound_codec = "libmp3lame" if container == "a.avi" else "aac"
    sound = clips.tone(2.0, 44_100)
    path = clips.write_clip(
        tmp_path / container, clips.grey_frames(20), sound=sound, sound_rate=44_100, sound_codec=sound_codec
    )
    found = read_media(path)
    assert indices(clips, found) == [0, 10]
    # AVI stores no display times; libav shows its H.264 two frames late, with the sound as it was.
    assert onset_s(found.sound) == pytest.approx(0.5, abs=0.2 if container == "a.avi" else 0.05)


def test_a_video_that_does_not_start_at_zero(clips, tmp_path):
    pts = [5000 + 100 * index for index in range(20)]
    path = clips.write_clip(
        tmp_path / "a.mkv", clips.grey_frames(20), pts=pts, sound=clips.tone(2.0), sound_start_s=5.0
    )
    found = read_media(path)
    assert indices(clips, found) == [0, 10]
    assert found.duration_s == pytest.approx(2.0, abs=0.01)
    assert read_media(path, max_frames=1).duration_s == pytest.approx(2.0, abs=0.1)
    assert onset_s(found.sound) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("video_ms", "sound_start_s", "expected_s"), [(0, 0.7, 1.2), (300, 0.0, 0.2)])
def test_sound_is_laid_beside_the_video(clips, tmp_path, video_ms, sound_start_s, expected_s):
    pts = [video_ms + 100 * index for index in range(20)]
    path = clips.write_clip(
        tmp_path / "a.mkv", clips.grey_frames(20), pts=pts, sound=clips.tone(2.0), sound_start_s=sound_start_s
    )
    assert onset_s(read_media(path).sound) == pytest.approx(expected_s, abs=0.03)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_is_applied(clips, tmp_path, rotation, turns):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # the upper left quarter
    path = clips.write_clip(tmp_path / "a.mp4", [picture] * 4, rate=2, rotation=rotation)
    frame = read_media(path, silent=True).frames[0]
    expected = np.rot90(picture, turns)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 8


def test_five_one_sound_becomes_stereo(clips, tmp_path):
    sound = np.zeros((32_000, 6), np.float32)
    sound[:, 4] = clips.tone(2.0)[:, 0]  # back left only
    path = clips.write_clip(tmp_path / "a.mkv", clips.grey_frames(20), sound=sound, layout="5.1")
    found = read_media(path).sound
    assert np.abs(found[:, 0]).max() > 10 * np.abs(found[:, 1]).max()


def test_a_film(clips, tmp_path):
    found = read_media(clips.write_film(tmp_path / "film.mp4"))
    assert found.frames.shape == (6, 720, 1280, 3)
    assert found.sound.shape == (round(clips.FILM_S * SAMPLE_RATE), 2)
    assert np.abs(found.sound).max() > 0.05
    heard = windows(found.sound, 5)
    assert (heard.samples.shape, heard.num_repeated) == ((5, WINDOW_SAMPLES, 2), 0)


def test_a_folder_of_frames_with_its_sound(clips, tmp_path):
    folder = clips.write_folder(tmp_path / "frames", 5, clips.tone(5.0))
    found = read_media(folder, start_s=2.0)
    assert indices(clips, found) == [2, 3, 4]
    np.testing.assert_array_equal(found.times_s, [2.0, 3.0, 4.0])
    assert (len(found.sound), found.duration_s) == (80_000, 5.0)
    assert len(read_media(folder, max_frames=2).frames) == 2
    assert read_media(folder, silent=True).sound is None


def test_another_sound_takes_the_place_of_the_track(clips, clip, tmp_path):
    soundfile.write(tmp_path / "other.wav", clips.tone(1.0), 16_000)
    assert len(read_media(clip, sound_path=tmp_path / "other.wav").sound) == 16_000
    with pytest.raises(BadInput, match=r"Both --silent and the sound file"):
        read_media(clip, sound_path=tmp_path / "other.wav", silent=True)

"""Reading clips: which frame is taken when, how the sound is laid beside it, and every way a file can be wrong."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from auralsam2_client.contract import WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media import reader as media
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound import windows

BIG_BUCK_BUNNY = Path(__file__).parents[3].parent / "shared" / "media" / "bigbuckbunny.mp4"


def onset_s(sound: np.ndarray) -> float:
    """When the tone of `clips.tone` begins, which is 0.5 s into the track."""
    return float(np.argmax(np.abs(sound[:, 0]) > 0.1)) / 16_000


def indices(clips, found) -> list[int]:
    return [clips.index_of(frame) for frame in found.frames]


@pytest.fixture(scope="module")
def clip(clips, tmp_path_factory):
    """3 s at 10 frames a second with sound."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    return clips.write_clip(path, clips.grey_frames(30), sound=clips.tone(3.0))


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


@pytest.mark.skipif(not BIG_BUCK_BUNNY.is_file(), reason="shared/media/bigbuckbunny.mp4 is not beside this checkout")
def test_a_real_film():
    found = read_media(BIG_BUCK_BUNNY)
    assert found.frames.shape == (6, 720, 1280, 3)
    assert found.sound.shape == (84_992, 2)
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


def test_a_folder_needs_one_sound(clips, tmp_path):
    folder = clips.write_folder(tmp_path / "frames", 2)
    with pytest.raises(BadInput, match=r"0 WAV files \(none\).*--silent"):
        read_media(folder)
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, clips.tone(2.0), 16_000)
    with pytest.raises(BadInput, match=r"2 WAV files \(a\.wav, b\.wav\)"):
        read_media(folder)
    assert len(read_media(folder, sound_path=folder / "b.wav").sound) == 32_000


def test_folders_that_are_wrong(clips, tmp_path):
    folder = clips.write_folder(tmp_path / "frames", 3, clips.tone(3.0))
    with pytest.raises(BadInput, match=r"start_s = 9, but frames ends at 3\.00 s"):
        read_media(folder, start_s=9.0)
    Image.new("RGB", (9, 6)).save(folder / "0009.png")
    with pytest.raises(BadInput, match=r"0000\.png is 64 x 48 px, but 0009\.png is 9 x 6 px"):
        read_media(folder)
    (folder / "0009.png").write_text("broken")
    with pytest.raises(BadInput, match=r"0009\.png cannot be read as an image"):
        read_media(folder)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_float_wav_with_a_bad_sample(clips, tmp_path, value, word):
    sound = clips.tone(3.0)
    sound[20_000, 1] = value
    folder = clips.write_folder(tmp_path / "frames", 3, sound)
    with pytest.raises(BadInput, match=rf"sample 20000 \(1\.250 s\), channel 1 is {word}"):
        read_media(folder)


def test_files_that_are_missing_or_no_video(clips, tmp_path):
    with pytest.raises(BadInput, match=r"none\.mp4 does not exist"):
        read_media(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("this is a text file\n" * 50)
    with pytest.raises(BadInput, match=r"text\.mp4 cannot be opened as a video.*ffmpeg"):
        read_media(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(BadInput, match=r"empty\.mp4 cannot be opened as a video"):
        read_media(tmp_path / "empty.mp4")
    soundfile.write(tmp_path / "sound.wav", clips.tone(1.0), 16_000)
    with pytest.raises(BadInput, match=r"sound\.wav has no video stream"):
        read_media(tmp_path / "sound.wav")


@pytest.mark.parametrize("address", ["http://example.org/a.mp4", "rtsp://example.org/a", "concat://a|b"])
def test_only_local_files_are_read(address):
    with pytest.raises(BadInput, match="only local files"):
        read_media(address)


def test_a_playlist_cannot_make_us_open_other_files(clip, tmp_path):
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadInput, match="cannot be opened as a video"):
        read_media(playlist)
    playlist.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(BadInput, match="cannot be opened as a video"):
        read_media(playlist)


def test_no_sound_track_names_silent(clips, tmp_path):
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(20))
    with pytest.raises(BadInput, match=r"no sound track.*--silent"):
        read_media(path)
    found = read_media(path, silent=True)
    assert found.sound is None
    assert not windows(found.sound, len(found.frames)).samples.any()


def test_a_sound_track_without_samples(clips, tmp_path):
    path = clips.write_clip(
        tmp_path / "a.mkv", clips.grey_frames(20), sound=np.zeros((0, 2), np.float32), sound_codec="pcm_s16le"
    )
    with pytest.raises(BadInput, match=r"sound track of 0 samples.*--silent"):
        read_media(path)
    folder = clips.write_folder(tmp_path / "frames", 2, np.zeros((0, 2), np.float32))
    with pytest.raises(BadInput, match=r"0 samples.*--silent"):
        read_media(folder)


def noisy_clip(clips, path, **how):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    return clips.write_clip(path, frames, sound=clips.tone(4.0), **how)


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    return path


def test_an_mp4_without_its_index(clips, tmp_path):
    path = cut(noisy_clip(clips, tmp_path / "a.mp4"), 0.9)
    with pytest.raises(BadInput, match=r"a\.mp4 cannot be opened as a video.*index at the end"):
        read_media(path)


@pytest.mark.parametrize(("name", "how"), [("a.mp4", {"faststart": True}), ("a.mkv", {})])
def test_a_file_cut_in_the_middle_names_both_times(clips, tmp_path, name, how):
    path = cut(noisy_clip(clips, tmp_path / name, **how), 0.5)
    with pytest.raises(BadInput, match=r"only up to [12]\.\d\d s of its declared 4\.\d\d s.*--max-frames"):
        read_media(path, silent=True)
    assert len(read_media(path, silent=True, max_frames=1).frames) == 1


def test_a_sound_track_cut_in_the_middle(clips, tmp_path):
    # The muxer lays all the sound behind all the video, so that the cut hits the sound alone.
    path = clips.write_clip(
        tmp_path / "a.mp4", clips.grey_frames(40), sound=clips.tone(4.0), faststart=True, sound_codec="aac"
    )
    assert len(read_media(path, silent=True).frames) == 4
    whole = path.read_bytes()
    for share in (0.6, 0.7, 0.8):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadInput, match=r"only up to \d\.\d\d s of its declared 4\.\d\d s"):
            read_media(path)


def test_a_video_of_one_frame(clips, tmp_path):
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(1), sound=clips.tone(1.0))
    with pytest.raises(BadInput, match=r"a video of 1 frame; at least 2"):
        read_media(path)


def test_a_stream_whose_size_changes(clips, tmp_path):
    first = clips.write_clip(tmp_path / "1.h264", clips.grey_frames(10), container="h264")
    second = clips.write_clip(tmp_path / "2.h264", clips.grey_frames(10, 32, 96), container="h264")
    path = tmp_path / "a.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(BadInput, match=r"is 96 x 32 px, those before are 64 x 48 px"):
        read_media(path, silent=True)


def test_a_frame_beyond_the_largest_side(clips, tmp_path):
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(2, 16, 8194))
    with pytest.raises(BadInput, match=r"a\.mp4 is 8194 x 16 px; a side may have 1 to 8192 px"):
        read_media(path, silent=True)


def test_more_frames_than_are_held(clips, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MAX_FRAMES", 20)
    with pytest.raises(BadInput, match=r"more than 20 frames at 10 a second.*--max-frames.*--fps"):
        read_media(clip, fps=10.0)
    assert len(read_media(clip, fps=10.0, max_frames=20).frames) == 20
    # Without a declared duration it shows while decoding.
    raw = clips.write_clip(tmp_path / "raw.h264", clips.grey_frames(60), rate=25, container="h264")
    with pytest.raises(BadInput, match="more than 20 frames"):
        read_media(raw, fps=25.0, silent=True)
    folder = clips.write_folder(tmp_path / "frames", 21)
    with pytest.raises(BadInput, match="more than 20 frames"):
        read_media(folder, silent=True)


def test_more_bytes_than_are_held(clip, monkeypatch):
    monkeypatch.setattr(media, "MAX_FRAMES_BYTES", 20_000)
    with pytest.raises(BadInput, match=r"3 frames of 64 x 48 px take .* GiB"):
        read_media(clip)
    assert len(read_media(clip, max_frames=2).frames) == 2


def test_more_sound_than_is_read(clip, monkeypatch):
    monkeypatch.setattr(media, "MAX_SOUND_S", 3.0)
    with pytest.raises(BadInput, match=r"the sound is read to 3 s.*--silent"):
        read_media(clip)
    assert len(read_media(clip, silent=True).frames) == 3


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"fps": 0.0}, "fps = 0.0; must be above 0"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"fps": 500.0}, "at most 120"),
        ({"start_s": -1.0}, "start_s = -1.0; must be 0 to 3600"),
        ({"start_s": 3.2}, r"start_s = 3.2, but clip.mp4 ends at 3.00 s"),
        ({"max_frames": 0}, "max_frames = 0; must be 1 to 600"),
        ({"max_frames": 601}, "max_frames = 601"),
    ],
)
def test_arguments_out_of_range(clip, wanted, words):
    with pytest.raises(BadInput, match=words):
        read_media(clip, **wanted)

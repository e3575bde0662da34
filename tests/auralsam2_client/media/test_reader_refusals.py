"""Every way a clip can be wrong: what is missing, broken, cut, too much or out of range is named."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media import reading as media
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound_windows import windows


def test_a_folder_needs_one_sound(clips: ModuleType, tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "frames", 2)
    with pytest.raises(BadInput, match=r"0 WAV files \(none\).*--silent"):
        read_media(folder)
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, clips.tone(2.0), 16_000)
    with pytest.raises(BadInput, match=r"2 WAV files \(a\.wav, b\.wav\)"):
        read_media(folder)
    chosen = read_media(folder, sound_path=folder / "b.wav").sound
    assert chosen is not None
    assert len(chosen) == 32_000


def test_folders_that_are_wrong(clips: ModuleType, tmp_path: Path) -> None:
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
def test_a_float_wav_with_a_bad_sample(clips: ModuleType, tmp_path: Path, value: float, word: str) -> None:
    sound = clips.tone(3.0)
    sound[20_000, 1] = value
    folder = clips.write_folder(tmp_path / "frames", 3, sound)
    with pytest.raises(BadInput, match=rf"sample 20000 \(1\.250 s\), channel 1 is {word}"):
        read_media(folder)


def test_files_that_are_missing_or_no_video(clips: ModuleType, tmp_path: Path) -> None:
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
def test_only_local_files_are_read(address: str) -> None:
    with pytest.raises(BadInput, match="only local files"):
        read_media(address)


def test_a_playlist_cannot_make_us_open_other_files(clip: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadInput, match="cannot be opened as a video"):
        read_media(playlist)
    playlist.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(BadInput, match="cannot be opened as a video"):
        read_media(playlist)


def test_no_sound_track_names_silent(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(20))
    with pytest.raises(BadInput, match=r"no sound track.*--silent"):
        read_media(path)
    found = read_media(path, silent=True)
    assert found.sound is None
    assert not windows(found.sound, len(found.frames)).samples.any()


def test_a_sound_track_without_samples(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "a.mkv", clips.grey_frames(20), sound=np.zeros((0, 2), np.float32), sound_codec="pcm_s16le"
    )
    with pytest.raises(BadInput, match=r"sound track of 0 samples.*--silent"):
        read_media(path)
    folder = clips.write_folder(tmp_path / "frames", 2, np.zeros((0, 2), np.float32))
    with pytest.raises(BadInput, match=r"0 samples.*--silent"):
        read_media(folder)


def noisy_clip(clips: ModuleType, path: Path, **how: Any) -> Path:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    written: Path = clips.write_clip(path, frames, sound=clips.tone(4.0), **how)
    return written


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    return path


def test_an_mp4_without_its_index(clips: ModuleType, tmp_path: Path) -> None:
    path = cut(noisy_clip(clips, tmp_path / "a.mp4"), 0.9)
    with pytest.raises(BadInput, match=r"a\.mp4 cannot be opened as a video.*index at the end"):
        read_media(path)


@pytest.mark.parametrize(("name", "how"), [("a.mp4", {"faststart": True}), ("a.mkv", {})])
def test_a_file_cut_in_the_middle_is_read_so_far_and_names_both_times(
    clips: ModuleType, tmp_path: Path, name: str, how: dict[str, Any]
) -> None:
    path = cut(noisy_clip(clips, tmp_path / name, **how), 0.5)
    found = read_media(path, silent=True)
    assert len(found.frames) in (2, 3)
    assert len(found.notes) == 1
    words = r"only up to [12]\.\d\d s of its declared [34]\.\d\d s"
    assert re.search(words, found.notes[0])
    with pytest.raises(BadInput, match=words + ".*--strict"):
        read_media(path, silent=True, strict=True)
    assert not read_media(path, silent=True, strict=True, max_frames=1).notes


def test_a_sound_track_cut_in_the_middle(clips: ModuleType, tmp_path: Path) -> None:
    # The muxer lays all the sound behind all the video, so that the cut hits the sound alone.
    path = clips.write_clip(
        tmp_path / "a.mp4", clips.grey_frames(40), sound=clips.tone(4.0), faststart=True, sound_codec="aac"
    )
    assert len(read_media(path, silent=True).frames) == 4
    whole = path.read_bytes()
    for share in (0.6, 0.7, 0.8):
        path.write_bytes(whole[: int(share * len(whole))])
        words = r"only up to \d\.\d\d s of its declared 4\.\d\d s"
        assert re.search(words, read_media(path).notes[0])
        with pytest.raises(BadInput, match=words):
            read_media(path, strict=True)


def test_a_video_of_one_frame_without_sound(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(1))
    with pytest.raises(BadInput, match=r"a video of 1 frame without sound; at least 2"):
        read_media(path, silent=True)


def test_a_stream_whose_size_changes(clips: ModuleType, tmp_path: Path) -> None:
    first = clips.write_clip(tmp_path / "1.h264", clips.grey_frames(10), container="h264")
    second = clips.write_clip(tmp_path / "2.h264", clips.grey_frames(10, 32, 96), container="h264")
    path = tmp_path / "a.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(BadInput, match=r"is 96 x 32 px, those before are 64 x 48 px"):
        read_media(path, silent=True)


def test_a_frame_beyond_the_largest_side(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", clips.grey_frames(2, 16, 8194))
    with pytest.raises(BadInput, match=r"a\.mp4 is 8194 x 16 px; a side may have 1 to 8192 px"):
        read_media(path, silent=True)


def test_more_frames_than_are_held(
    clips: ModuleType, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_FRAMES", 20)
    with pytest.raises(BadInput, match=r"more than 20 frames at 10 a second.*--max-frames 20 now.*--start 2; .*--fps"):
        read_media(clip, fps=10.0)
    monkeypatch.setattr(media, "MAX_SOUND_S", 1.5)
    with pytest.raises(BadInput, match=r"--max-frames or a lower --fps, or cut the video\."):
        read_media(clip, fps=10.0, silent=True)
    monkeypatch.undo()
    monkeypatch.setattr(media, "MAX_FRAMES", 20)
    assert len(read_media(clip, fps=10.0, max_frames=20).frames) == 20
    # Without a declared duration it shows while decoding.
    raw = clips.write_clip(tmp_path / "raw.h264", clips.grey_frames(60), rate=25, container="h264")
    with pytest.raises(BadInput, match="more than 20 frames"):
        read_media(raw, fps=25.0, silent=True)
    folder = clips.write_folder(tmp_path / "frames", 21)
    with pytest.raises(BadInput, match="more than 20 frames"):
        read_media(folder, silent=True)


def test_more_bytes_than_are_held(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_FRAMES_BYTES", 20_000)
    with pytest.raises(BadInput, match=r"3 frames of 64 x 48 px take .* GiB"):
        read_media(clip)
    assert len(read_media(clip, max_frames=2).frames) == 2


def test_more_sound_than_is_read(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_SOUND_S", 3.0)
    with pytest.raises(BadInput, match=r"the sound is read to 3 s.*--silent"):
        read_media(clip)
    assert len(read_media(clip, silent=True).frames) == 3


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"fps": 0.0}, "fps = 0.0; must be 1/3600"),
        ({"fps": 1e-9}, "fps = 1e-09; must be 1/3600"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"fps": 500.0}, "to 120 frames a second"),
        ({"start_s": -1.0}, "start_s = -1.0; must be 0 to 3600"),
        ({"start_s": 3.2}, r"start_s = 3.2, but clip.mp4 ends at 3.00 s"),
        ({"max_frames": 0}, "max_frames = 0; must be 1 to 600"),
        ({"max_frames": 601}, "max_frames = 601"),
    ],
)
def test_arguments_out_of_range(clip: Path, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_media(clip, **wanted)

"""AVSBench's layout: what is read, and how each fault of a folder is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from auralsam2.data import files
from auralsam2.data.avsbench import open_split, read_clip
from auralsam2.errors import DataError


def test_a_clip_is_read_whole(folders: Any, tmp_path: Path) -> None:
    sample = read_clip(folders.write_clip(tmp_path / "v1m" / "abc"))
    assert sample.name == "v1m/abc"
    assert sample.frames.shape == (5, 40, 60, 3)
    assert sample.frames[:, 0, 0, 0] == pytest.approx([0, 20, 40, 60, 80], abs=3)
    assert sample.masks.sum(axis=(1, 2)).tolist() == [100] * 5
    assert sample.masks[3, 10, 8], "the label of frame 3"
    assert not sample.masks[3, 10, 7]
    assert sample.windows.shape == (5, 15600, 2)
    assert np.abs(sample.windows[:, :, 0]).max() == pytest.approx(2 * np.abs(sample.windows[:, :, 1]).max(), rel=1e-3)


def test_frames_are_sorted_by_number_not_by_letter(folders: Any, tmp_path: Path) -> None:
    sample = read_clip(folders.write_clip(tmp_path / "v2" / "abc", num_frames=11))
    assert sample.frames[:, 0, 0, 0] == pytest.approx([20 * i for i in range(11)], abs=3)


def test_names_with_the_clips_name_before_the_number(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "v1s" / "abc_12")
    for path in list((clip / "labels_rgb").iterdir()):
        path.rename(path.with_name(f"abc_12_{int(path.stem) + 1}.png"))
    assert read_clip(clip).masks[4, 10, 9]


def test_splits_follow_the_table(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1s": ["a", "b"], "v1m": ["c"]})
    assert [s.name for s in open_split(root, "v1s")] == ["v1s/a", "v1s/b"]
    assert [s.name for s in open_split(root, "v1s", limit=1)] == ["v1s/a"]
    with pytest.raises(DataError, match=r"lists no clip of v2/test; it has v1m/test, v1s/test"):
        open_split(root, "v2")
    with pytest.raises(DataError, match=r"lists no clip of v1m/val"):
        open_split(root, "v1m", "val")


def test_the_table_may_lie_in_the_index_folder(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["c"]})
    (root / "avss_index").mkdir()
    (root / "metadata.csv").rename(root / "avss_index" / "metadata.csv")
    assert len(open_split(root, "v1m")) == 1


def test_no_labels(folders: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels_rgb: no such folder; the clip has no labels"):
        read_clip(folders.write_clip(tmp_path / "a", labels=False))


def test_unequal_counts(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    (clip / "labels_rgb" / "4.png").unlink()
    with pytest.raises(DataError, match=r"5 frames but 4 labels.*train on it, but judge on another part"):
        read_clip(clip)


def test_the_first_label_alone_will_do_where_it_is_asked_for(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    for index in range(1, 5):
        (clip / "labels_rgb" / f"{index}.png").unlink()
    sample = read_clip(clip, first_label=True)
    assert sample.frames.shape == (5, 40, 60, 3)
    assert sample.masks.shape == (1, 40, 60)
    assert sample.masks[0, 10, 5]


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_corrupt_image(folders: Any, tmp_path: Path, content: bytes | None) -> None:
    path = folders.write_clip(tmp_path / "a") / "frames" / "2.jpg"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(DataError, match=r"2\.jpg cannot be read as an image: .*Replace the file.* Or drop the clip"):
        read_clip(tmp_path / "a")


def test_an_image_of_another_size(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    Image.new("RGB", (61, 40)).save(clip / "frames" / "3.jpg")
    with pytest.raises(DataError, match=r"0\.jpg is 60 x 40 px, but 3\.jpg is 61 x 40 px;"):
        read_clip(clip)


@pytest.mark.parametrize("seconds", [2.0, 3.9, 6.1])
def test_a_wav_of_another_length(folders: Any, tmp_path: Path, seconds: float) -> None:
    clip = folders.write_clip(tmp_path / "a", seconds=seconds)
    with pytest.raises(DataError, match=rf"audio\.wav: {seconds:.2f} s of sound for 5 frames"):
        read_clip(clip)


def test_a_wav_that_is_a_little_short_repeats_its_last_window(folders: Any, tmp_path: Path) -> None:
    sample = read_clip(folders.write_clip(tmp_path / "a", seconds=4.5))
    np.testing.assert_array_equal(sample.windows[4], sample.windows[3])
    assert not np.array_equal(sample.windows[3], sample.windows[2])


@pytest.mark.parametrize("content", [b"", b"RIFF....", None])
def test_a_wav_that_cannot_be_read(folders: Any, tmp_path: Path, content: bytes | None) -> None:
    clip = folders.write_clip(tmp_path / "a")
    if content is None:
        (clip / "audio.wav").unlink()
    else:
        (clip / "audio.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"audio\.wav: not a readable WAV"):
        read_clip(clip)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 1), (48000, 2), (22050, 6)])
def test_other_rates_and_channels_become_stereo_at_16_khz(
    folders: Any, tmp_path: Path, rate: int, channels: int
) -> None:
    clip = folders.write_clip(tmp_path / "a")
    folders.write_tone(clip / "audio.wav", 5, rate, channels)
    window = read_clip(clip).windows[2]
    spectrum = np.abs(np.fft.rfft(window[:, 0] * np.hanning(len(window))))
    assert np.fft.rfftfreq(len(window), 1 / 16000)[spectrum.argmax()] == pytest.approx(440, abs=2)
    if channels == 1:
        np.testing.assert_array_equal(window[:, 0], window[:, 1])


def test_a_name_without_a_number(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    (clip / "frames" / "0.jpg").rename(clip / "frames" / "first.jpg")
    with pytest.raises(DataError, match=r"first\.jpg: the name must end with the frame's number"):
        read_clip(clip)


def test_a_table_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("uid,split\na,test\n")
    with pytest.raises(DataError, match=r"metadata\.csv: lacks the columns label"):
        open_split(tmp_path, "v1m")


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"metadata\.csv: cannot be read as a table"):
        open_split(tmp_path, "v1m")


def test_released_v2_pools_the_three_subsets(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v2": ["d"], "v1s": ["a", "b"], "v1m": ["c"]})
    assert [s.name for s in open_split(root, "v2")] == ["v2/d"]
    assert [s.name for s in open_split(root, "v2", pooled=True)] == ["v1s/a", "v1s/b", "v1m/c", "v2/d"]
    assert [s.name for s in open_split(root, "v1m", pooled=True)] == ["v1m/c"]


def test_a_picture_is_turned_upright_as_the_client_turns_it(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    upright = read_clip(clip).frames[2]
    path = clip / "frames" / "2.jpg"
    turned = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    turned.save(path, exif=exif, quality=95, subsampling=0)
    found = read_clip(clip).frames[2]
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 8


def test_left_overs_of_mac_and_windows_are_no_pictures(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    wanted = read_clip(clip)
    for folder, suffix in (("frames", "jpg"), ("labels_rgb", "png")):
        (clip / folder / f"._0.{suffix}").write_bytes(b"\0\5\x16\7" + b"\0" * 90)
        (clip / folder / f".0.{suffix}").write_bytes(b"")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (clip / folder / name).write_bytes(b"\0")
    (clip / "._audio.wav").write_bytes(b"\0")
    found = read_clip(clip)
    np.testing.assert_array_equal(found.frames, wanted.frames)
    np.testing.assert_array_equal(found.masks, wanted.masks)


def test_two_pictures_of_one_number(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    Image.new("RGB", (60, 40)).save(clip / "frames" / "copy_0.jpg")
    with pytest.raises(DataError, match=r"frames: 0\.jpg and copy_0\.jpg have one number"):
        read_clip(clip)


ELSEWHERE = ("../../outside", "..", "", ".", "/outside", "a/../../../outside", "..\\..\\outside", "a\0b")


@pytest.mark.parametrize("uid", ELSEWHERE)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, uid: str) -> None:
    with pytest.raises(DataError, match=r"is no name of a folder in .*v1m, and what lies elsewhere is not read"):
        files.inside(tmp_path / "avs" / "v1m", uid)


def test_such_a_uid_is_a_clip_that_cannot_be_read(folders: Any, tmp_path: Path) -> None:
    folders.write_clip(tmp_path / "outside")
    root = folders.write_avsbench(tmp_path / "avs", {"v1m": ["a"]})
    table = root / "metadata.csv"
    table.write_text(table.read_text().replace("x,a,", "x,../../outside,"))
    (clip,) = open_split(root, "v1m")
    assert clip.name == "v1m/../../outside"
    with pytest.raises(DataError, match=r"^'\.\./\.\./outside' is no name of a folder"):
        clip.read()


def test_a_row_that_is_too_short_is_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("split,label,uid\ntest,v1m\nval\n")
    (clip,) = open_split(tmp_path, "v1m")
    with pytest.raises(DataError, match="'' is no name of a folder"):
        clip.read()
    with pytest.raises(DataError, match=r"it has /val, v1m/test"):
        open_split(tmp_path, "v2")


def test_a_name_that_no_disk_can_hold(tmp_path: Path) -> None:
    (tmp_path / "v1m").mkdir()
    (tmp_path / "metadata.csv").write_text(f"split,label,uid\ntest,v1m,{'a' * 300}\n")
    (clip,) = open_split(tmp_path, "v1m")
    with pytest.raises(DataError, match="cannot be listed"):
        clip.read()


def test_no_sound_at_all_and_sound_of_hours(folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = folders.write_clip(tmp_path / "a", num_frames=1, seconds=0.0)
    with pytest.raises(DataError, match=r"audio\.wav: 0\.00 s of sound for 1 frames"):
        read_clip(clip)
    folders.write_tone(clip / "audio.wav", 60.0, rate=1000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_a, **_k: pytest.fail("all of it was read"))
    with pytest.raises(DataError, match=r"audio\.wav: 60\.00 s of sound for 1 frames"):
        read_clip(clip)

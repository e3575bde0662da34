"""Ref-AVS's layout: three splits, of which the null one has no truth but emptiness."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2.data.ref_avs import open_split
from auralsam2.errors import DataError


@pytest.fixture
def root(folders: Any, tmp_path: Path) -> Path:
    rows = ["vid,uid,split,fid,exp"]
    for video, split in (("cat_x", "test_s"), ("dog_y", "test_u"), ("owl_z", "test_n")):
        folders.write_clip(tmp_path / "media" / video, num_frames=10, labels=False)
        if split != "test_n":
            folders.write_labels(tmp_path / "gt_mask" / video / "fid_3", 10)
        uid = f"{video}_null_7" if split == "test_n" else f"{video}_0_7"
        rows.append(f'{"null_vid" if split == "test_n" else video},{uid},{split},3,"the one that sounds, loudest"')
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_seen_and_unseen_have_masks_and_words(root: Path) -> None:
    for split, name in (("seen", "cat_x_0_7"), ("unseen", "dog_y_0_7")):
        sample = open_split(root, split)[0].read()
        assert sample.name == name
        assert sample.expression == "the one that sounds, loudest"
        assert sample.frames.shape == (10, 40, 60, 3)
        assert sample.windows.shape == (10, 15600, 2)
        assert sample.masks.any((1, 2)).all()


def test_the_null_splits_truth_is_empty_and_its_video_stands_in_the_uid(root: Path) -> None:
    sample = open_split(root, "null")[0].read()
    assert sample.masks.shape == (10, 40, 60)
    assert not sample.masks.any()


def test_missing_labels(root: Path) -> None:
    (root / "gt_mask" / "cat_x" / "fid_3" / "9.png").unlink()
    with pytest.raises(DataError, match=r"fid_3: 9 labels for 10 frames"):
        open_split(root, "seen")[0].read()
    for path in (root / "gt_mask" / "cat_x" / "fid_3").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"fid_3: holds no image .*no labels"):
        open_split(root, "seen")[0].read()


def test_unknown_and_empty_splits(root: Path) -> None:
    with pytest.raises(DataError, match="'val' is unknown; choose one of seen, unseen, null"):
        open_split(root, "val")
    table = root / "metadata.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "test_u" not in line))
    with pytest.raises(DataError, match="lists no clip of test_u; it has test_n, test_s"):
        open_split(root, "unseen")


@pytest.mark.parametrize(
    ("seconds", "examples"),
    # An example every 0.96 s, each 15 ms longer; the clip has ten frames.
    [(10.0, 10), (9.1, 9), (10.9, 11)],
)
def test_released_sound_keeps_the_examples_it_has(root: Path, folders: Any, seconds: float, examples: int) -> None:
    folders.write_tone(root / "media" / "cat_x" / "audio.wav", seconds)
    own = open_split(root, "seen")[0].read()
    as_released = open_split(root, "seen", least_examples=5)[0].read()
    assert own.windows.shape == (10, 15600, 2)
    assert as_released.windows.shape == (examples, 15600, 2)
    np.testing.assert_array_equal(as_released.windows_per_frame(), own.windows)


def test_released_sound_is_filled_up_to_five_examples(folders: Any, tmp_path: Path) -> None:
    folders.write_clip(tmp_path / "media" / "a", num_frames=3, labels=False)
    folders.write_labels(tmp_path / "gt_mask" / "a" / "fid_1", 3)
    (tmp_path / "metadata.csv").write_text("uid,vid,split,fid,exp\na_0_1,a,test_s,1,x\n")
    sample = open_split(tmp_path, "seen", least_examples=5)[0].read()
    assert sample.windows.shape == (5, 15600, 2)
    np.testing.assert_array_equal(sample.windows[3], sample.windows[2])
    np.testing.assert_array_equal(sample.windows[4], sample.windows[2])
    assert not np.array_equal(sample.windows[2], sample.windows[1])


def test_another_rate_goes_to_the_resampler_that_was_named(root: Path, folders: Any) -> None:
    folders.write_tone(root / "media" / "cat_x" / "audio.wav", 10, rate=22050)
    own, released = (open_split(root, "seen", resampler=name)[0].read().windows for name in ("soxr", "resampy"))
    assert own.shape == released.shape == (10, 15600, 2)
    assert not np.array_equal(own, released)


@pytest.mark.parametrize(("column", "split"), [("vid", "seen"), ("fid", "seen"), ("uid", "null")])
def test_a_name_that_leads_elsewhere_is_refused(root: Path, column: str, split: str) -> None:
    table = root / "metadata.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row[column] = "../../outside_0_7"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (clip,) = open_split(root, split)
    with pytest.raises(DataError, match="is no name of a folder"):
        clip.read()


def test_left_overs_beside_labels(root: Path) -> None:
    (root / "gt_mask" / "cat_x" / "fid_3" / "._0.png").write_bytes(b"\0\5\x16\7")
    (root / "media" / "cat_x" / "frames" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    assert open_split(root, "seen")[0].read().masks.shape == (10, 40, 60)

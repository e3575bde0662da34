"""Training on a folder in AVSBench's layout."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2.errors import DataError
from auralsam2.training.examples.folder_source import folder_source


@pytest.fixture(scope="module")
def root(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = folders.write_avsbench(tmp_path_factory.mktemp("avs"), {"v1m": ["a", "b", "c"]}, split="train")
    folders.write_tone(path / "v1m" / "b" / "audio.wav", 5, channels=1)
    return path


def test_clips_are_resized_and_each_pass_goes_through_all(root: Path) -> None:
    source = folder_source(root, "v1m", 64, seed=1)
    clips = [source(number, 5) for number in range(9)]
    assert clips[0].frames.shape == (5, 64, 64, 3)
    assert clips[0].windows.shape == (5, 15600, 2)
    assert clips[0].masks.shape == (5, 64, 64)
    assert clips[0].masks.mean() == pytest.approx(100 / 2400, rel=0.1)
    mono = [bool((clip.windows[..., 0] == clip.windows[..., 1]).all()) for clip in clips]
    assert [sum(mono[i : i + 3]) for i in (0, 3, 6)] == [1, 1, 1], "clip b comes once a pass"
    np.testing.assert_array_equal(source(4, 5).frames, clips[4].frames)


def test_of_long_clips_each_pass_takes_another_part_and_short_ones_are_refused(root: Path) -> None:
    source = folder_source(root, "v1m", 64, seed=1)
    # Frames are told by their red, 20 a frame.
    firsts = {int(source(number, 3).frames[0, 0, 0, 0]) // 19 for number in range(9)}
    assert firsts == {0, 1, 2}
    assert source(0, 3).windows.shape == (3, 15600, 2)
    with pytest.raises(DataError, match="5 frames; this run takes 6 of a clip"):
        source(0, 6)


def test_a_clip_that_cannot_be_used_is_named_once_and_the_next_takes_its_place(
    folders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["a", "b", "c"]}, split="train")
    folders.write_tone(root / "v1m" / "b" / "audio.wav", 5, channels=1)
    whole = [folder_source(root, "v1m", 64, seed=1)(number, 5) for number in range(9)]
    (root / "v1m" / "c" / "frames" / "2.jpg").write_bytes(b"broken")
    source = folder_source(root, "v1m", 64, seed=1)
    with caplog.at_level(logging.WARNING):
        clips = [source(number, 5) for number in range(9)]
    assert [record.getMessage() for record in caplog.records] == [
        message for message in caplog.messages if message.startswith("v1m/c is left out of training, and the next")
    ]
    assert len(caplog.records) == 1
    assert "2.jpg cannot be read as an image" in caplog.text
    # a and c sound alike here; b is mono. Each pass has b once or, where it follows c, twice; the others as before.
    order = [np.random.default_rng([1, 5, turn]).permutation(3).tolist() for turn in range(3)]
    for number, clip in enumerate(clips):
        turn, place = divmod(number, 3)
        wanted = order[turn][place] if order[turn][place] != 2 else order[turn][(place + 1) % 3]
        assert bool((clip.windows[..., 0] == clip.windows[..., 1]).all()) == (wanted == 1)
        if order[turn][place] != 2:
            np.testing.assert_array_equal(clip.frames, whole[number].frames)
    # Another process, another order of asking: the same examples.
    other = folder_source(root, "v1m", 64, seed=1)
    for number in (8, 3, 0):
        np.testing.assert_array_equal(other(number, 5).windows, clips[number].windows)


def test_a_folder_without_any_clip_that_can_be_used(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["a", "b"]}, split="train")
    for uid in ("a", "b"):
        (root / "v1m" / uid / "audio.wav").unlink()
    with pytest.raises(DataError, match=r"none of the 2 clips of v1m/train can be used\. v1m/.: .*audio\.wav"):
        folder_source(root, "v1m", 64, seed=1)(0, 5)


def test_a_missing_split_is_told_at_once(root: Path) -> None:
    with pytest.raises(DataError, match="lists no clip of v2/train"):
        folder_source(root, "v2", 64, seed=1)


def test_of_v1s_the_first_frame_is_labelled_and_the_others_are_unknown(
    folders: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root: Path = folders.write_avsbench(tmp_path_factory.mktemp("v1s"), {"v1s": ["a"]}, split="train")
    for index in range(1, 5):
        (root / "v1s" / "a" / "labels_rgb" / f"{index}.png").unlink()
    source = folder_source(root, "v1s", 64, seed=1)
    for number in range(3):
        clip = source(number, 4)
        assert clip.frames.shape == (4, 64, 64, 3)
        assert int(clip.frames[0, 0, 0, 0]) < 10, "the part begins with the labelled frame, each pass"
        assert clip.labelled is not None
        assert clip.labelled.tolist() == [True, False, False, False]
        assert clip.masks.shape == (4, 64, 64)
        assert clip.masks[0].any()
        assert not clip.masks[1:].any()


def test_of_other_splits_every_frame_is_labelled(root: Path) -> None:
    assert folder_source(root, "v1m", 64, seed=1)(0, 5).labelled is None

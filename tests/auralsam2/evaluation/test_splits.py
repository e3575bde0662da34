from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2.errors import DataError
from auralsam2.evaluation.protocol import protocol_of
from auralsam2.evaluation.splits import open_splits


def test_the_procedural_world_has_three_splits() -> None:
    splits = open_splits(None, None, None, limit=1, protocol=protocol_of("released"))
    assert list(splits) == ["single", "multi", "unseen"]
    (clip,) = splits["multi"]
    sample = clip.read()
    assert clip.name == sample.name == "multi-00000"
    assert sample.frames.shape == (5, 256, 256, 3)
    assert sample.windows.shape == (5, 15600, 2)
    assert sample.masks.shape == (5, 256, 256)


def test_a_data_set_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give the folder that AVSBench was unpacked into"):
        open_splits("avsbench", tmp_path, ["v1m"], None, protocol=protocol_of("released", "avsbench"))


def test_clips_are_read_when_they_are_asked_for(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["a"]})
    (clip,) = open_splits("avsbench", root, ["v1m"], None, protocol=protocol_of("project", "avsbench"))["v1m"]
    folders.write_tone(root / "v1m" / "a" / "audio.wav", 5, channels=1)
    windows = clip.read().windows
    np.testing.assert_array_equal(windows[..., 0], windows[..., 1])


def test_v2_is_pooled_as_released_and_alone_in_the_project(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1s": ["a"], "v1m": ["b"], "v2": ["c"]})
    released, own = (
        open_splits("avsbench", root, ["v2"], None, protocol=protocol_of(name, "avsbench"))["v2"]
        for name in ("released", "project")
    )
    assert [s.name for s in released] == ["v1s/a", "v1m/b", "v2/c"]
    assert [s.name for s in own] == ["v2/c"]


def write_ref_avs(folders: Any, root: Path, num_frames: int) -> None:
    folders.write_clip(root / "media" / "a", num_frames=num_frames, labels=False)
    folders.write_labels(root / "gt_mask" / "a" / "fid_1", num_frames)
    (root / "metadata.csv").write_text("uid,vid,split,fid,exp\na_0_1,a,test_s,1,x\n")


@pytest.mark.parametrize("layout", ["avsbench", "ref-avs"])
def test_the_protocol_s_resampler_is_asked(layout: str, folders: Any, tmp_path: Path) -> None:
    if layout == "avsbench":
        split, sound = "v1m", folders.write_avsbench(tmp_path, {"v1m": ["a"]}) / "v1m" / "a" / "audio.wav"
    else:
        write_ref_avs(folders, tmp_path, 5)
        split, sound = "seen", tmp_path / "media" / "a" / "audio.wav"
    folders.write_tone(sound, 5, rate=44100)
    own, released = (
        open_splits(layout, tmp_path, [split], None, protocol=protocol_of(name, layout))[split]
        for name in ("project", "released")
    )
    ours, theirs = (samples[0].read().windows for samples in (own, released))
    assert not np.array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, atol=0.01)


@pytest.mark.parametrize(("name", "examples"), [("released", 5), ("project", 2)])
def test_the_protocol_fills_up_sound(name: str, examples: int, folders: Any, tmp_path: Path) -> None:
    write_ref_avs(folders, tmp_path, 2)
    own = protocol_of(name, "ref-avs")
    (clip,) = open_splits("ref-avs", tmp_path, ["seen"], None, protocol=own)["seen"]
    assert len(clip.read().windows) == examples


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, None, ["triple"], None), "split 'triple' is unknown; choose of single, multi, unseen"),
        (("avsbench", Path(), ["single"], None), "split 'single' is unknown; choose of v1s, v1m, v2"),
        (("coco", Path(), None, None), "layout 'coco' is unknown; choose one of avsbench, ref-avs"),
        ((None, None, None, 0), "clips = 0; at least one"),
    ],
)
def test_what_is_unknown_is_named(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_splits(*arguments, protocol=protocol_of("released"))  # type: ignore[arg-type]

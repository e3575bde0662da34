from pathlib import Path

import pytest

from auralsam2.errors import DataError
from auralsam2.evaluation.splits import open_splits


def test_the_procedural_world_has_three_splits() -> None:
    splits = open_splits(None, None, None, limit=1)
    assert list(splits) == ["single", "multi", "unseen"]
    (sample,) = splits["multi"]
    assert sample.name == "multi-00000"
    assert sample.frames.shape == (5, 256, 256, 3)
    assert sample.windows.shape == (5, 15600, 2)
    assert sample.masks.shape == (5, 256, 256)


def test_splits_are_read_when_gone_through(tmp_path: Path) -> None:
    splits = open_splits("avsbench", tmp_path, ["v1m"], None)
    with pytest.raises(DataError, match="Give the folder that AVSBench was unpacked into"):
        next(iter(splits["v1m"]))


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
        open_splits(*arguments)  # type: ignore[arg-type]

"""Classes of an AVSBench folder: by the colours of its second version, or by numbers where it has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from auralsam2.data.label_maps import class_names, colours_of, open_labelled, read_labels
from auralsam2.errors import DataError
from tests.auralsam2.data.folders import write_avsbench

NAMES = {"background": 0, "cat": 1, "dog": 2, "harp": 3, "drum": 4, "cello": 5, "bus": 6, "bird": 7, "man": 8}
CAT, BIRD, MAN = 1, 7, 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two clips; what `write_avsbench` draws in (0, 0, 64) is drawn again in the colours of cat, bird and man."""
    made = write_avsbench(tmp_path, {"v2": ["one", "two"]})
    (made / "label2idx.json").write_text(json.dumps(NAMES))
    for uid in ("one", "two"):
        for index in range(5):
            write_colours(made / "v2" / uid / "labels_rgb" / f"{index}.png", numbers(index))
    return made


def numbers(index: int) -> NDArray[np.uint8]:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 5 + index : 15 + index] = CAT
    labels[22:30, 30:40], labels[30:38, 30:40] = BIRD, MAN
    return labels


def write_colours(path: Path, labels: NDArray[np.uint8]) -> None:
    # By hand, as PASCAL VOC paints 0, 1, 7 and 8.
    colours = {0: (0, 0, 0), CAT: (128, 0, 0), BIRD: (128, 128, 128), MAN: (64, 0, 0)}
    picture = np.zeros((*labels.shape, 3), np.uint8)
    for number, colour in colours.items():
        picture[labels == number] = colour
    Image.fromarray(picture).save(path)


def test_names_stand_in_the_order_of_their_numbers(root: Path) -> None:
    assert class_names(root) == ("cat", "dog", "harp", "drum", "cello", "bus", "bird", "man")
    (root / "avss_index").mkdir()
    (root / "label2idx.json").rename(root / "avss_index" / "label2idx.json")
    assert class_names(root)[0] == "cat"


def test_colours_are_those_of_pascal_voc_and_differ() -> None:
    colours = colours_of(71)
    known = {2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 9: (192, 0, 0), 70: (32, 128, 128), 64: (32, 0, 0)}
    assert {number: tuple(colours[number].tolist()) for number in known} == known
    assert len({tuple(colour) for colour in colours_of(256).tolist()}) == 256


def test_clips_come_with_the_class_of_each_pixel(root: Path) -> None:
    readers = open_labelled(root, "v2", limit=1)
    (clip,) = (reader() for reader in readers)
    np.testing.assert_array_equal(clip.labels, [numbers(index) for index in range(5)])
    np.testing.assert_array_equal(clip.sample.masks, clip.labels > 0)
    assert clip.labels.dtype == np.uint8
    assert len(open_labelled(root, "v2")) == 2


def test_numbers_are_read_where_the_folder_has_them(root: Path) -> None:
    folder = root / "v2" / "one" / "labels_semantic"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(numbers(index) * 0 + CAT).save(folder / f"{index}.png")
    (clip,) = (reader() for reader in open_labelled(root, "v2", limit=1))
    assert (clip.labels == CAT).all()
    Image.fromarray(np.full((40, 60), 9, np.uint8)).save(folder / "3.png")
    with pytest.raises(DataError, match=r"3\.png: holds the number 9; label2idx\.json names 0 to 8"):
        read_labels(folder.parent, len(NAMES))
    (folder / "3.png").unlink()
    with pytest.raises(DataError, match="4 label maps for 5 frames"):
        open_labelled(root, "v2", limit=1)[0]()


def test_labels_that_say_no_class_are_refused(root: Path) -> None:
    path = root / "v2" / "two" / "labels_rgb" / "4.png"
    Image.fromarray(np.full((40, 60, 3), 255, np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"4\.png: 2400 pixels are of no class's colour, the first of them \(255, 255, 255\)"
    ):
        open_labelled(root, "v2")[1]()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match="several sizes"):
        read_labels(path.parents[1], len(NAMES))
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png cannot be read as an image"):
        read_labels(path.parents[1], len(NAMES))


def test_a_folder_without_names_says_which_file_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no label2idx\.json or avss_index/label2idx\.json"):
        open_labelled(tmp_path, "v2")


@pytest.mark.parametrize(
    "text", ['{"background": 0}', '{"background": 0, "cat": 2}', '{"background": 1, "cat": 2}', '["cat", "dog"]']
)
def test_a_list_with_gaps_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "label2idx.json").write_text(text)
    with pytest.raises(DataError, match="must give names numbers from 0"):
        class_names(tmp_path)


def test_a_list_that_is_damaged_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "label2idx.json"
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        class_names(tmp_path)
    path.write_text(json.dumps({str(number): number for number in range(257)}))
    with pytest.raises(DataError, match="257 names; at most 255 classes"):
        class_names(tmp_path)

"""Masks as data sets and paint programs store them: the object is every pixel that is not background."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.mask_pictures import read_mask

Mask = NDArray[np.bool_]
HEIGHT, WIDTH = 96, 128
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def block(top: int, bottom: int, left: int, right: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


ONE, TWO = block(20, 60, 30, 80), block(70, 90, 90, 120)
BOTH = ONE | TWO
LABELS = ONE * 1 + TWO * 2


def palette_picture(labels: NDArray[np.generic], colours: list[int]) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette(colours + [0] * (768 - len(colours)))
    return image


def label_colours(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[ONE], picture[TWO] = colours
    return picture


def cut_out(colour: int) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH, 4), colour, np.uint8)
    picture[..., 3] = ONE * 255
    return picture


def found(path: Path, image: Image.Image, **options: Any) -> Mask:
    image.save(path, **options)
    return read_mask(path)


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
@pytest.mark.parametrize(
    "colours", [VOC, [0, 0, 0, 9, 9, 8, 9, 9, 9], [255, 255, 255, 128, 0, 0, 0, 0, 255], [0, 0, 0, 1, 1, 1, 2, 2, 2]]
)
def test_index_0_of_a_palette_is_background(tmp_path: Path, suffix: str, colours: list[int]) -> None:
    np.testing.assert_array_equal(found(tmp_path / f"a.{suffix}", palette_picture(LABELS, colours)), BOTH)


def test_indices_count_where_their_colours_are_one(tmp_path: Path) -> None:
    np.testing.assert_array_equal(found(tmp_path / "a.png", palette_picture(LABELS, [0] * 9)), BOTH)


def test_black_and_white_as_a_palette_is_white_on_the_object(tmp_path: Path) -> None:
    """PIL's own palettes put white first, so that it is the colours that count."""
    white_first = Image.fromarray(np.where(ONE, 255, 0).astype(np.uint8)).quantize(2)
    assert (white_first.getpalette() or [])[:6] == [255, 255, 255, 0, 0, 0]
    np.testing.assert_array_equal(found(tmp_path / "a.png", white_first), ONE)


@pytest.mark.parametrize(
    "colours", [((128, 0, 0), (192, 128, 128)), ((0, 0, 64), (1, 0, 0)), ((0, 64, 0), (0, 0, 255))]
)
def test_black_is_background_in_colours(tmp_path: Path, colours: tuple[tuple[int, int, int], ...]) -> None:
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(label_colours(*colours))), BOTH)


@pytest.mark.parametrize(("suffix", "quality"), [("jpg", 60), ("jpg", 95), ("webp", 60)])
def test_colours_of_a_lossy_format_are_told_from_nearly_black(tmp_path: Path, suffix: str, quality: int) -> None:
    image = Image.fromarray(label_colours((64, 0, 0), (192, 128, 128)))
    mask = found(tmp_path / f"a.{suffix}", image, quality=quality)
    assert (mask != BOTH).mean() < 0.02
    grown = np.asarray(Image.fromarray(BOTH).filter(ImageFilter.MaxFilter(17)))
    assert not (mask & ~grown).any()


@pytest.mark.parametrize("colour", [0, 90, 255])
def test_what_is_transparent_is_background(tmp_path: Path, colour: int) -> None:
    """A black shape on nothing is a shape."""
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(cut_out(colour))), ONE)
    grey = Image.fromarray(cut_out(colour)).convert("LA")
    np.testing.assert_array_equal(found(tmp_path / "b.png", grey), ONE)
    np.testing.assert_array_equal(found(tmp_path / "c.webp", Image.fromarray(cut_out(colour)), lossless=True), ONE)


def test_transparency_of_a_palette_and_of_a_colour(tmp_path: Path) -> None:
    np.testing.assert_array_equal(found(tmp_path / "a.png", palette_picture(LABELS + 1, VOC), transparency=1), BOTH)
    picture = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    picture[ONE] = 7
    np.testing.assert_array_equal(
        found(tmp_path / "b.png", Image.fromarray(picture), transparency=(200, 200, 200)), ONE
    )


def test_an_alpha_that_is_the_same_everywhere_says_nothing(tmp_path: Path) -> None:
    opaque = np.dstack([label_colours((128, 0, 0), (1, 1, 1)), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(opaque)), BOTH)
    opaque[..., 3] = 0
    assert not found(tmp_path / "b.png", Image.fromarray(opaque)).any()


@pytest.mark.parametrize("step", [1, 7, 60, 127])
@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm", "tif"])
def test_flat_shades_of_grey_are_labels(tmp_path: Path, step: int, suffix: str) -> None:
    np.testing.assert_array_equal(
        found(tmp_path / f"a.{suffix}", Image.fromarray((step * LABELS).astype(np.uint8))), BOTH
    )


def test_thin_labels_are_labels(tmp_path: Path) -> None:
    lines = np.zeros((HEIGHT, WIDTH), np.uint8)
    lines[10:12], lines[30], lines[:, 100:102] = 100, 200, 40
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(lines)), lines > 0)


def test_many_labels_in_8_and_in_16_bits(tmp_path: Path) -> None:
    labels = np.arange(12 * 16).reshape(12, 16).repeat(8, 0).repeat(8, 1)
    labels[:, ::8] = labels[::8] = 0
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(labels.astype(np.uint8))), labels > 0)
    wide = np.where(labels > 0, labels * 300, 0).astype(np.uint16)
    np.testing.assert_array_equal(found(tmp_path / "b.png", Image.fromarray(wide)), labels > 0)


def test_one_bit_and_floats(tmp_path: Path) -> None:
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(ONE)), ONE)
    logits = np.where(ONE, 8.5, -3).astype(np.float32)
    logits[0, 0] = np.nan
    np.testing.assert_array_equal(found(tmp_path / "b.tif", Image.fromarray(logits)), ONE)
    np.testing.assert_array_equal(found(tmp_path / "c.tif", Image.fromarray(ONE.astype(np.float32))), ONE)
    smooth = np.tile(np.linspace(-4, 6, WIDTH, dtype=np.float32), (HEIGHT, 1))
    np.testing.assert_array_equal(found(tmp_path / "d.tif", Image.fromarray(smooth)), smooth > 0)


@pytest.mark.parametrize("radius", [0.7, 2, 6, 15])
def test_soft_edges_are_cut_in_the_middle(tmp_path: Path, radius: float) -> None:
    soft = Image.fromarray(np.where(ONE, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    middle = np.asarray(soft) > 127
    np.testing.assert_array_equal(found(tmp_path / "a.png", soft), middle)
    np.testing.assert_array_equal(found(tmp_path / "b.png", soft.convert("RGB")), middle)
    wide = np.asarray(soft).astype(np.uint16) * 257
    np.testing.assert_array_equal(found(tmp_path / "c.png", Image.fromarray(wide)), middle)


def test_a_blur_that_nowhere_reaches_the_middle_is_empty(tmp_path: Path) -> None:
    faint = Image.fromarray(np.where(block(40, 50, 40, 50), 255, 0).astype(np.uint8))
    assert not found(tmp_path / "a.png", faint.filter(ImageFilter.GaussianBlur(12))).any()


def test_rims_of_few_shades_are_soft_edges(tmp_path: Path) -> None:
    half = np.where(ONE, 255, 0).astype(np.uint8)
    half[19, 30:80] = 60
    half[60, 30:80] = 128
    np.testing.assert_array_equal(found(tmp_path / "a.png", Image.fromarray(half)), half > 127)


@pytest.mark.parametrize(("suffix", "quality"), [("jpg", 50), ("jpg", 95), ("webp", 50)])
def test_grey_of_a_lossy_format_is_cut_in_the_middle(tmp_path: Path, suffix: str, quality: int) -> None:
    picture = Image.fromarray(np.where(ONE, 255, 0).astype(np.uint8)).rotate(20)
    mask = found(tmp_path / f"a.{suffix}", picture, quality=quality)
    with Image.open(tmp_path / f"a.{suffix}") as again:
        np.testing.assert_array_equal(mask, np.asarray(again.convert("L")) > 127)


def test_a_mask_is_turned_upright_as_its_frame_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = found(tmp_path / "a.png", Image.fromarray(np.where(ONE, 255, 0).astype(np.uint8)), exif=exif)
    np.testing.assert_array_equal(mask, np.rot90(ONE, k=-1))


def test_all_background_is_an_empty_mask(tmp_path: Path) -> None:
    for index, image in enumerate(
        (Image.new("L", (8, 8)), Image.new("RGB", (8, 8)), palette_picture(np.zeros((8, 8), int), VOC))
    ):
        assert not found(tmp_path / f"{index}.png", image).any()


def test_what_is_no_picture_of_a_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    with pytest.raises(BadInput, match=r"a\.png cannot be read as an image: none of PNG, JPEG"):
        read_mask(tmp_path / "a.png")
    Image.new("1", (30_000, 2)).save(tmp_path / "b.png")
    with pytest.raises(BadInput, match="30000 x 2 px; a side may have 1 to 8192 px"):
        read_mask(tmp_path / "b.png")

"""Pictures of every depth and mode, read as frames: what is black stays black, what is white is white."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.frames import read_frames
from auralsam2_client.media.stills.mask_pictures import read_mask

HEIGHT, WIDTH = 12, 256


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(read_frames([path])[0])


def ramp(dtype: type[np.generic], top: float) -> NDArray[Any]:
    return np.tile(np.linspace(0, top, WIDTH).astype(dtype), (HEIGHT, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_the_upper_8_are_read(tmp_path: Path, suffix: str) -> None:
    shades = ramp(np.uint16, 65535)
    Image.fromarray(shades).save(tmp_path / f"a.{suffix}")
    found = read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(found, np.repeat((shades >> 8).astype(np.uint8)[..., None], 3, axis=-1))


def test_16_bits_of_the_other_byte_order_and_32_bits(tmp_path: Path) -> None:
    shades = ramp(np.uint16, 65535)
    Image.frombytes("I;16B", (WIDTH, HEIGHT), shades.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    Image.fromarray(shades.astype(np.int32)).save(tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(read(tmp_path / name)[..., 1], (shades >> 8).astype(np.uint8))


def test_floats_go_from_black_to_white(tmp_path: Path) -> None:
    Image.fromarray(ramp(np.float32, 1)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 2], ramp(np.uint8, 255))


@pytest.mark.parametrize(
    ("shades", "words"),
    [
        (ramp(np.float32, 255), "values from 0 to 255; a picture of floats is read from 0"),
        (np.full((4, 4), np.nan, np.float32), "values from nan to nan"),
        (ramp(np.int32, 100_000), "values from 0 to 100000; a grey picture of whole numbers"),
        (ramp(np.int32, -5), "values from -5 to 0"),
    ],
)
def test_a_scale_that_cannot_be_known_is_refused(tmp_path: Path, shades: NDArray[Any], words: str) -> None:
    Image.fromarray(shades).save(tmp_path / "a.tif")
    with pytest.raises(BadInput, match=words):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mode", "suffix", "within"),
    [("1", "png", 0), ("P", "png", 0), ("LA", "png", 0), ("RGBA", "png", 0), ("CMYK", "jpg", 3), ("L", "webp", 3)],
)
def test_every_mode_keeps_black_and_white(tmp_path: Path, mode: str, suffix: str, within: int) -> None:
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, 16:] = 255
    Image.fromarray(halves).convert(mode).save(tmp_path / f"a.{suffix}", quality=95)
    np.testing.assert_allclose(read(tmp_path / f"a.{suffix}").astype(int), halves, atol=within)


def bitmap_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("size", [(20_000, 20_000), (30_000, 2), (2, 30_000)])
@pytest.mark.parametrize("header", [png_header, bitmap_header])
def test_a_large_picture_is_refused_by_its_header(
    tmp_path: Path, size: tuple[int, int], header: Callable[[int, int], bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(header(*size))
    with pytest.raises(
        BadInput, match=rf"{size[0]} x {size[1]} px; a side may have 1 to 8192 px\. Scale it down first"
    ):
        read(tmp_path / "a.png")


def test_other_formats_are_not_tried(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    with pytest.raises(BadInput, match=r"none of PNG, JPEG, BMP, WEBP, TIFF\. Replace the file"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif", "ppm"])
def test_damaged_pictures_are_refused_or_read_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    """Each read as a frame and as a mask; warnings of the library are errors here."""
    draw = np.random.default_rng(7)
    picture = Image.fromarray(draw.integers(0, 256, (24, 40, 3), np.uint8))
    (picture.convert("P") if suffix == "gif" else picture).save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    path, refused = tmp_path / "damaged", 0
    for _ in range(60):
        changed = bytearray(whole)
        for place in draw.integers(0, min(len(whole), draw.choice([60, len(whole)])), 4):
            changed[place] = draw.integers(0, 256)
        path.write_bytes(changed[: draw.integers(1, len(whole))] if draw.random() < 0.3 else changed)
        for reading in (read, read_mask):
            try:
                reading(path)
            except BadInput:
                refused += 1
    assert refused > 10

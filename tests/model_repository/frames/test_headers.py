"""What a file says of itself: taken as it is, or refused in words, before anything is decoded."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_repository.stage_runtime.frames.headers import BadPicture, Header, read_header

SIDE = 32
RGB = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 8, 3), np.uint8)


def file_of(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(format: str, mode: str = "RGB", **options: Any) -> bytes:
    return file_of(Image.fromarray(RGB).convert(mode), format, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 8, colour: int = 2, *before: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def several(format: str) -> bytes:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    return file_of(first, format, save_all=True, append_images=[second])


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(200), "comment": b"\xff\xda" * 20}),
        ("JPEG", {"mode": "L"}),
        ("PNG", {}),
        ("PNG", {"mode": "L"}),
        ("PNG", {"mode": "P"}),
        ("PNG", {"mode": "1"}),
        ("WEBP", {"quality": 90}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(201)}),
    ],
)
def test_what_an_encoder_writes_is_read(format: str, options: dict[str, Any]) -> None:
    assert read_header(picture(format, **options)) == Header(format, SIDE + 8, SIDE)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_file_cut_anywhere_is_refused(format: str) -> None:
    data = picture(format)
    for end in range(len(data)):
        with pytest.raises(BadPicture):
            read_header(data[:end])


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "GIF": (lambda: picture("GIF"), "begins with 47 49 46 38; must be a JPEG, PNG or WebP file"),
    "nothing": (lambda: b"", "begins with nothing"),
    "text": (lambda: b"<html>", "begins with 3c 68 74 6d"),
    "CMYK": (lambda: picture("JPEG", "CMYK"), "4 channels"),
    "12 bits": (lambda: picture("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "12 bits a channel"),
    "lossless JPEG": (lambda: picture("JPEG").replace(b"\xff\xc0\0\x11", b"\xff\xc3\0\x11"), "seldom kind"),
    "many scans": (lambda: picture("JPEG")[:-2] + b"\xff\xda" * 65 + b"\xff\xd9", "more than 64 scans"),
    "16 bits": (lambda: file_of(Image.fromarray(RGB[..., 0].astype(np.uint16)), "PNG"), "16 bits a channel"),
    "no such depth": (lambda: png(8, 8, 3), "3 bits a channel of kind 2"),
    "RGBA": (lambda: picture("PNG", "RGBA"), "transparency"),
    "a colour that is transparent": (lambda: picture("PNG", transparency=(1, 2, 3)), "transparency"),
    "RGBA in WebP": (lambda: file_of(transparent(), "WEBP"), "transparency"),
    "RGBA in lossless WebP": (lambda: file_of(transparent(), "WEBP", lossless=True), "transparency"),
    "animated PNG": (lambda: several("PNG"), "animated"),
    "animated WebP": (lambda: several("WEBP"), "animated"),
    "no IDAT": (lambda: png(8, 8).replace(b"IDAT", b"IDAX"), "cut short"),
    "bytes after the end": (lambda: png(8, 8) + b"\0", "cut short"),
}


def transparent() -> Image.Image:
    image = Image.fromarray(RGB).convert("RGBA")
    image.putpixel((0, 0), (1, 2, 3, 4))
    return image


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_picture_is_refused_in_words(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(BadPicture, match=words):
        read_header(make())


def test_a_canvas_and_its_picture_have_one_size() -> None:
    data = bytearray(picture("WEBP", exif=b"Exif\0\0" + bytes(60)))
    assert data[12:16] == b"VP8X"
    data[24:27] = (29_999).to_bytes(3, "little")
    with pytest.raises(BadPicture, match="of another size"):
        read_header(bytes(data))


def test_a_bomb_is_its_sides() -> None:
    assert read_header(png(30_000, 30_000)) == Header("PNG", 30_000, 30_000)

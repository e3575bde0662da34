"""Folders of images, and resizing as the published pipeline does it."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.frames import image_size, list_frames, read_frames, resize_frames
from auralsam2_client.media.stills.pictures import MAX_SIDE_PX


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares its size and holds no pixels: enough for a reader that looks before it decodes."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def test_frames_come_sorted_in_every_format(tmp_path):
    for index, suffix in enumerate(["png", "jpg", "jpeg", "bmp", "webp"]):
        Image.new("RGB", (8, 6), (50 * index, 0, 0)).save(tmp_path / f"{index}.{suffix}")
    (tmp_path / "notes.txt").write_text("not a frame")
    paths = list_frames(tmp_path)
    assert [p.name for p in paths] == ["0.png", "1.jpg", "2.jpeg", "3.bmp", "4.webp"]
    seen = []
    frames = read_frames(paths, progress=lambda done, total: seen.append((done, total)))
    assert frames.shape == (5, 6, 8, 3)
    np.testing.assert_allclose(frames[:, 0, 0, 0], [0, 50, 100, 150, 200], atol=4)
    assert seen == [(i, 5) for i in range(1, 6)]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_pixel_modes_become_rgb(tmp_path, mode):
    Image.fromarray(noise(6, 8)).convert(mode).save(tmp_path / "a.png")
    assert read_frames([tmp_path / "a.png"]).shape == (1, 6, 8, 3)


def test_exif_orientation_is_applied(tmp_path):
    picture = noise(16, 32)
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert image_size(tmp_path / "a.png") == (32, 16)
    np.testing.assert_array_equal(read_frames([tmp_path / "a.png"])[0], np.rot90(picture, k=-1))


def test_sizes_that_differ_name_both_files(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 6)).save(tmp_path / "b.png")
    with pytest.raises(BadInput, match=r"a\.png is 8 x 6 px, but b\.png is 9 x 6 px"):
        read_frames(list_frames(tmp_path))


def test_a_folder_of_one_frame(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"holds 1 images.*at least 2"):
        list_frames(tmp_path)


@pytest.mark.parametrize("size", [(MAX_SIDE_PX + 1, 4), (12_000, 12_000), (60_000, 60_000)])
def test_a_huge_image_is_refused_by_its_header(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_header(*size))
    with pytest.raises(BadInput, match=r"1 to 8192 px"):
        read_frames([tmp_path / "a.png"])


def test_corrupt_images_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(BadInput, match=r"text\.png cannot be read as an image"):
        read_frames([tmp_path / "text.png"])
    whole = tmp_path / "whole.png"
    Image.fromarray(noise(64, 64)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:6000])
    with pytest.raises(BadInput, match=r"cut\.png cannot be read as an image"):
        read_frames([whole, tmp_path / "cut.png"])


def test_resizing_is_pil_bicubic_to_the_bit():
    frames = np.stack([noise(45, 80, seed) for seed in range(2)])
    resized = resize_frames(frames, 32)
    assert resized.shape == (2, 32, 32, 3)
    for frame, small in zip(frames, resized, strict=True):
        np.testing.assert_array_equal(small, np.asarray(Image.fromarray(frame).resize((32, 32), Image.BICUBIC)))


def test_resizing_refuses_other_shapes_and_sizes():
    with pytest.raises(BadInput, match=r"float32 \[1, 4, 4, 3\]"):
        resize_frames(np.zeros((1, 4, 4, 3), np.float32), 8)
    with pytest.raises(BadInput, match=r"uint8 \[4, 4, 3\]"):
        resize_frames(np.zeros((4, 4, 3), np.uint8), 8)
    with pytest.raises(BadInput, match="0 x 0 px"):
        resize_frames(np.zeros((1, 4, 4, 3), np.uint8), 0)

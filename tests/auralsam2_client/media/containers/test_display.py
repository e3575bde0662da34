"""How pictures are shown: all eight display matrices, pixels that are not square, and the colours in words."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.media.containers.display import Orientation, from_matrix, pixel_aspect
from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import filming, telling

MATRICES = [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]
MATRICES += [(0, -1, -1, 0)]


def as_the_matrix_says(stored: telling.Picture, a: int, b: int, c: int, d: int) -> telling.Picture:
    """Each stored point (x, y) at (a x + c y, b x + d y), moved into the picture."""
    y, x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    shown = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    shown[down, across] = stored
    return shown


@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_matrices(matrix: tuple[int, int, int, int]) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(from_matrix(*matrix).apply(stored), as_the_matrix_says(stored, *matrix))


def test_scaled_slanted_and_empty_matrices_count_as_the_nearest() -> None:
    assert from_matrix(-131072, 0, 0, 131072) == Orientation(0, mirrored=True)
    assert from_matrix(0.2, 0.98, -0.98, 0.2) == Orientation(1)
    assert from_matrix(0, 0, 0, 0) == Orientation()
    assert from_matrix(0.7, 0.7, -0.7, 0.7) == Orientation()


@pytest.fixture(scope="module")
def sensor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sensor") / "sensor.mp4"
    return filming.write(path, [telling.corner_picture()] * 4, None, fps=2)


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_video_is_shown_as_its_matrix_says(sensor: Path, tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = (number << 16 for number in matrix)
    # In a track header of version 0 the matrix follows 40 bytes of dates, numbers, places and volume.
    value = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = read_media(filming.patched(sensor, tmp_path / "t.mp4", b"tkhd", 44, value), silent=True)
    expected = as_the_matrix_says(telling.corner_picture(), *matrix)
    assert turned.frames[0].shape == expected.shape
    assert np.abs(turned.frames[0].astype(int) - expected).mean() < 8
    facts = turned.facts()["rotation"]
    assert facts == {"degrees_clockwise": 90 * from_matrix(*matrix).quarters, "mirrored": a * d < 0 or b * c > 0}


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    wide = filming.Recipe(aspect=Fraction(64, 45))
    found = read_media(filming.write(tmp_path / "w.mp4", [telling.picture(1)] * 4, None, wide, fps=2), silent=True)
    assert found.pixel_aspect == pytest.approx(64 / 45)
    assert found.frames.shape[1:3] == (48, 80)
    assert found.facts()["pixel_aspect"] == found.pixel_aspect


@pytest.mark.parametrize(
    ("declared", "quarters", "shown"),
    [
        (None, 0, 1.0),
        (Fraction(0), 0, 1.0),
        (Fraction(4, 3), 1, 0.75),
        (Fraction(4, 3), 2, 4 / 3),
        (Fraction(90), 0, 1),
    ],
)
def test_the_aspect_turns_with_the_picture(declared: Fraction | None, quarters: int, shown: float) -> None:
    assert pixel_aspect(declared, Orientation(quarters)) == pytest.approx(shown)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "matrix", "full"),
    [("yuv420p", "libx264", "unspecified, read as bt601", "limited"), ("yuvj420p", "mjpeg", "bt470bg", "full")],
)
def test_the_colours_are_named(tmp_path: Path, pixel_format: str, codec: str, matrix: str, full: str) -> None:
    recipe = filming.Recipe(video=codec, pixel_format=pixel_format, video_options={})
    path = filming.write(tmp_path / "c.mkv", [telling.picture(1)] * 4, None, recipe, fps=2)
    colour = read_media(path, silent=True).facts()["colour"]
    assert colour == {"pixel_format": pixel_format, "matrix": matrix, "range": full}

"""The caption names the frame, and stands below the picture."""

import numpy as np
import pytest

from service.results.caption import add_caption, caption_of, strip_height_px


def test_it_tells_the_frame_as_its_mask_is_named_the_time_and_the_score() -> None:
    assert caption_of(2, 2.0, -1.26) == "frame 2   2.00 s   object score -1.3"
    assert caption_of(30, 1.2, 4.0) == "frame 30   1.20 s   object score +4.0"


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (61, 33), (24, 500), (1, 1)])
def test_no_pixel_of_the_picture_is_hidden_and_the_height_is_even(height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = add_caption(picture, caption_of(123, 599.0, -11.8))
    np.testing.assert_array_equal(found[:height], picture)
    assert found.shape == (height + strip_height_px(height, width), width, 3)
    assert found.shape[0] % 2 == 0


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (180, 320), (569, 320), (240, 160)])
def test_the_longest_caption_fits_the_strip(height: int, width: int) -> None:
    strip = add_caption(np.zeros((height, width, 3), np.uint8), caption_of(599, 3599.96, -11.8))[height:]
    lit = strip.max(axis=2) > 128
    assert lit.any()
    assert not lit[:, -3:].any()
    assert not lit[[0, -1]].any()
    assert len(strip) <= 0.1 * height

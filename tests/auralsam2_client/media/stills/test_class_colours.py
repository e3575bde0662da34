"""Colours of classes can be told apart, stay with their class, and tint no more than the things."""

import numpy as np
import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.class_colours import ALPHA, FIRST, MAX_CLASSES, class_colours, draw_classes, oklab

# In OKLab, black to white are 1 apart; two colours side by side are told apart from about 0.02.
LEAST_DISTANCE = {6: 0.24, 12: 0.17, 70: 0.06, MAX_CLASSES: 0.03}


@pytest.mark.parametrize("count", LEAST_DISTANCE)
def test_colours_are_told_apart(count: int) -> None:
    places = oklab(np.array(class_colours(count), np.uint8))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[~np.eye(count, dtype=bool)]
    assert apart.min() > LEAST_DISTANCE[count]


def test_no_colour_is_near_black_grey_or_white() -> None:
    lightness, *chroma = oklab(np.array(class_colours(MAX_CLASSES), np.uint8)).T
    assert lightness.min() > 0.45
    assert lightness.max() < 0.95
    assert np.hypot(*chroma).min() > 0.08


def test_a_class_keeps_its_colour_whatever_their_number() -> None:
    for count in (0, 1, 6, 70):
        assert class_colours(count) == class_colours(MAX_CLASSES)[:count]
    assert class_colours(1) == (FIRST,)


def test_oklab_is_as_published() -> None:
    """Source: the table of test values in Ottosson's description, for white; red, green and blue by its formula."""
    colours = np.array([(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    wanted = [(1, 0, 0), (0.628, 0.225, 0.126), (0.866, -0.234, 0.179), (0.452, -0.032, -0.312)]
    np.testing.assert_allclose(oklab(colours), wanted, atol=1e-3)


def test_things_are_tinted_and_nothing_else() -> None:
    frame = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), np.uint8)
    labels[1, 1], labels[2, 3] = 1, 2
    drawn = draw_classes(frame, labels, 2)
    assert (drawn[labels == 0] == 100).all()
    for place, colour in (((1, 1), class_colours(2)[0]), ((2, 3), class_colours(2)[1])):
        wanted = [round(100 * (1 - ALPHA) + shade * ALPHA) for shade in colour]
        np.testing.assert_allclose(drawn[place], wanted, atol=1)
    assert (frame == 100).all(), "the frame itself stays"


def test_what_has_no_colour_is_refused() -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(BadInput, match="256 classes; colours are there for 0 to 255"):
        class_colours(256)
    with pytest.raises(BadInput, match="go up to 3; there are colours for 2 classes"):
        draw_classes(frame, np.full((4, 6), 3, np.uint8), 2)
    with pytest.raises(BadInput, match=r"labels \[6, 4\]"):
        draw_classes(frame, np.zeros((6, 4), np.uint8), 2)

"""Simulated clicks go where a person would click: the middle of the thickest error."""

import numpy as np
import pytest

from auralsam2.evaluation.clicks import NEGATIVE, POSITIVE, Click, box_of, corrective_click, depths, points_in


def disc(x: int, y: int, radius: int, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def test_depth_grows_towards_the_middle_and_the_border_counts_as_rim() -> None:
    assert depths(np.ones((3, 5), bool)).tolist() == [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    depth = depths(disc(30, 20, 11))
    assert (int(depth[20, 30]), int(depth.max())) == (depth.max(), depth.max())
    assert 10 <= depth.max() <= 13
    assert not depth[~disc(30, 20, 11)].any()


@pytest.mark.parametrize(
    ("mask", "truth", "click"),
    [
        (np.zeros((64, 64), bool), disc(40, 22, 9), Click(40, 22, POSITIVE)),
        (disc(40, 22, 9), np.zeros((64, 64), bool), Click(40, 22, NEGATIVE)),
        (disc(12, 12, 6), disc(12, 12, 6) | disc(45, 50, 8), Click(45, 50, POSITIVE)),
        (disc(12, 12, 8) | disc(45, 50, 5), disc(45, 50, 9), Click(12, 12, NEGATIVE)),
    ],
    ids=["missing", "extra", "one of two missing", "the thicker error first"],
)
def test_the_click_is_the_middle_of_the_thickest_error(mask: np.ndarray, truth: np.ndarray, click: Click) -> None:
    found = corrective_click(mask, truth)
    assert found is not None
    assert found.label == click.label
    assert abs(found.x - click.x) <= 1
    assert abs(found.y - click.y) <= 1


def test_without_an_error_there_is_no_click() -> None:
    assert corrective_click(disc(20, 20, 5), disc(20, 20, 5)) is None


def test_box_and_points_lie_on_the_object() -> None:
    truth = disc(30, 20, 7) | disc(50, 55, 4)
    assert box_of(truth) == (23, 13, 54, 59)
    points = points_in(truth, 200, np.random.default_rng(0)).astype(int)
    assert points.shape == (200, 2)
    assert truth[points[:, 1], points[:, 0]].all()
    assert {bool(x > 42) for x, _ in points} == {True, False}, "both parts are pointed at"

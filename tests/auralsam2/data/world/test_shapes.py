import numpy as np
import numpy.typing as npt
import pytest

from auralsam2.data.world.shapes import LOOK_ALIKE, SHAPES, Build, Shape, draw_build, signed_distance

AXIS = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
X, Y = np.meshgrid(AXIS, AXIS)
PLAIN = Build(1.0, 0.5, 5)


def inside(shape: Shape, build: Build = PLAIN) -> npt.NDArray[np.bool_]:
    return signed_distance(shape, X, Y, build) < 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fits_its_radius_and_is_not_small(shape: Shape) -> None:
    for seed in range(20):
        area = inside(shape, draw_build(np.random.default_rng(seed)))
        assert not area[0].any()
        assert not area[:, 0].any()
        assert not area[-1].any()
        assert not area[:, -1].any()
        assert 0.08 < area.mean() < 0.45


@pytest.mark.parametrize("shape", SHAPES)
def test_the_distance_is_true_near_the_edge(shape: Shape) -> None:
    """Its slope is one, so that an edge is drawn one pixel wide; corners and creases excepted."""
    distance = signed_distance(shape, X, Y, PLAIN)
    step = AXIS[1] - AXIS[0]
    slope = np.hypot(*np.gradient(distance, step))[np.abs(distance) < 0.03]
    assert np.median(slope) == pytest.approx(1, abs=0.05)


def test_no_two_classes_cover_the_same_pixels() -> None:
    areas = {shape: inside(shape) for shape in SHAPES}
    for one in SHAPES:
        for other in SHAPES:
            if one != other:
                overlap = (areas[one] & areas[other]).sum() / (areas[one] | areas[other]).sum()
                assert overlap < 0.85, (one, other)


def test_a_ring_has_a_hole_and_a_disc_has_none() -> None:
    assert inside("disc")[150, 150]
    assert not inside("ring")[150, 150]


@pytest.mark.parametrize("points", [5, 6, 7])
def test_a_star_has_its_points(points: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = [np.asarray(0.8 * f(angle), np.float32)[None] for f in (np.cos, np.sin)]
    lit = signed_distance("star", circle[0], circle[1], Build(1.0, 0.5, points))[0] < 0
    assert int((lit & ~np.roll(lit, 1)).sum()) == points


def test_look_alikes_come_in_pairs() -> None:
    assert set(LOOK_ALIKE) == set(SHAPES)
    assert all(LOOK_ALIKE[LOOK_ALIKE[shape]] == shape != LOOK_ALIKE[shape] for shape in SHAPES)

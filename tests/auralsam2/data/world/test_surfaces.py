import numpy as np
import pytest

from auralsam2.data.world import surfaces

KINDS = [*surfaces.SEEN_TEXTURES, *surfaces.UNSEEN_TEXTURES]
BACKDROPS = [*surfaces.SEEN_BACKDROPS, *surfaces.UNSEEN_BACKDROPS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_texture_mixes_its_two_colours(kind: str) -> None:
    colours = (np.array([1, 0, 0], np.float32), np.array([0, 0, 1], np.float32))
    axis = np.linspace(-1, 1, 64, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    paint = surfaces.paint(surfaces.Texture(kind, colours, 2.0, 0.3, 0.5), x, y)
    assert paint.shape == (64, 64, 3)
    assert paint.min() >= 0
    assert paint.max() <= 1
    assert (paint[..., 1] == 0).all()
    assert (paint[..., 2].std() > 0.1) == (kind != "plain")


@pytest.mark.parametrize("kind", BACKDROPS)
def test_a_backdrop_is_the_same_each_time_and_stays_between_its_colours(kind: str) -> None:
    rng = np.random.default_rng(2)
    backdrop = surfaces.draw_backdrop(rng, (kind,))
    first, again = (surfaces.paint_backdrop(backdrop, 96) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    low, high = np.minimum(*backdrop.colours), np.maximum(*backdrop.colours)
    assert (first >= low - 1e-5).all()
    assert (first <= high + 1e-5).all()
    assert first.std((0, 1)).max() > 0.003


def test_things_stand_out_from_their_backdrop() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        backdrop = surfaces.draw_backdrop(rng, tuple(BACKDROPS))
        texture = surfaces.draw_texture(rng, tuple(KINDS), backdrop)
        for mine in texture.colours:
            for other in backdrop.colours:
                assert np.linalg.norm(mine - other) > surfaces.MIN_CONTRAST

"""The demo clip: real media, one shape sounding at a time on its own side, the same for the same seed."""

import numpy as np
import pytest

from service.demo_clip import HEIGHT, WIDTH, write_demo_clip
from service.errors import BadInput
from service.media import read_media
from service.sound import windows


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return read_media(write_demo_clip(tmp_path_factory.mktemp("demo") / "demo.mp4"), fps=5.0)


def test_it_is_five_seconds_of_moving_pictures_with_sound(demo):
    assert demo.frames.shape == (25, HEIGHT, WIDTH, 3)
    assert demo.duration_s == pytest.approx(5.0)
    assert windows(demo.sound, 5).num_repeated == 0
    changes = np.abs(np.diff(demo.frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3))
    assert changes.min() > 50
    assert demo.frames[0].std() > 20


def test_one_side_sounds_at_a_time_and_one_second_is_silent(demo):
    loudness = np.sqrt([(demo.sound[s * 16_000 + 800 : (s + 1) * 16_000 - 800] ** 2).mean(axis=0) for s in range(5)])
    left, right = loudness.T
    assert (left[:2] > 4 * right[:2]).all()
    assert (right[3:] > 4 * left[3:]).all()
    assert loudness[2].max() < 1e-3 < 0.05 < loudness[[0, 1, 3, 4]].max(axis=1).min()
    assert np.abs(demo.sound).max() < 0.9


def test_the_same_seed_gives_the_same_file(tmp_path):
    first, again, other = (write_demo_clip(tmp_path / f"{i}.mp4", seed, 1) for i, seed in enumerate([3, 3, 4]))
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("seconds", [0, 61])
def test_seconds_out_of_range(tmp_path, seconds):
    with pytest.raises(BadInput, match=f"seconds = {seconds}; must be 1 to 60"):
        write_demo_clip(tmp_path / "a.mp4", seconds=seconds)

import math

import numpy as np
import pytest

from auralsam2.training.examples.augmentation import Augmentation, affine, augment
from auralsam2.training.examples.clips import Example, procedural

STILL = Augmentation(jitter=0, greyscale_share=0)


@pytest.fixture(scope="module")
def example() -> Example:
    return procedural(0, 64)(3, 5)


def square(size: int = 64) -> Example:
    """A white square left of and above the centre, on black; its mask beside it."""
    masks = np.zeros((2, size, size), bool)
    masks[:, 12:20, 8:24] = True
    frames = np.repeat(masks[..., None] * np.uint8(255), 3, axis=-1)
    return Example(frames, np.zeros((2, 15600, 2), np.float32), masks)


def centre_of(mask: np.ndarray) -> tuple[float, float]:
    """x and y from the middle of the picture, px."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean() + 0.5 - mask.shape[1] / 2), float(rows.mean() + 0.5 - mask.shape[0] / 2)


def test_augmentation_is_alike_for_all_frames_and_leaves_the_sound(example: Example) -> None:
    still = Example(np.repeat(example.frames[:1], 5, 0), example.windows, np.repeat(example.masks[:1], 5, 0))
    flips = greys = 0
    for seed in range(60):
        out = augment(still, np.random.default_rng(seed), Augmentation())
        assert out.frames.dtype == np.uint8
        assert out.windows is still.windows
        assert (out.frames == out.frames[:1]).all()
        flipped = not np.array_equal(out.masks, still.masks)
        if flipped:
            np.testing.assert_array_equal(out.masks, still.masks[:, :, ::-1])
        flips += flipped
        greys += bool((np.ptp(out.frames.astype(int), axis=-1) <= 1).all())
        # Frame and mask flip together: what was brightest in a half is still in the half that the mask says.
        straight = out.frames[:, :, ::-1] if flipped else out.frames
        correlation = np.corrcoef(straight.mean(-1).ravel(), still.frames.mean(-1).ravel())[0, 1]
        assert correlation > 0.9
    assert 15 < flips < 45
    assert 1 <= greys <= 14


def test_how_far_colours_go_is_asked_for(example: Example) -> None:
    for seed in range(20):
        out = augment(example, np.random.default_rng(seed), STILL)
        straight = out.frames if np.array_equal(out.masks, example.masks) else out.frames[:, :, ::-1]
        np.testing.assert_array_equal(straight, example.frames)
    always = augment(example, np.random.default_rng(0), Augmentation(0, 1))
    assert np.ptp(always.frames.astype(int), axis=-1).max() <= 1


def test_a_rotation_turns_picture_and_mask_about_the_centre() -> None:
    before = square()
    after = affine(before, 20, 0)
    x, y = centre_of(before.masks[0])
    turn = math.radians(20)
    wanted = (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
    assert centre_of(after.masks[0]) == pytest.approx(wanted, abs=0.5)
    assert after.masks[0].sum() == pytest.approx(before.masks[0].sum(), rel=0.05)
    assert centre_of(after.frames[0, ..., 0] > 200) == pytest.approx(wanted, abs=0.7)
    assert after.frames[0, 0, 0].tolist() == [123, 116, 103], "what was outside the picture"
    assert not after.masks[:, 0, 0].any()
    np.testing.assert_array_equal(after.masks[0], after.masks[1])


def test_a_shear_moves_rows_along_themselves() -> None:
    before = square()
    after = affine(before, 0, 20)
    x, y = centre_of(before.masks[0])
    assert centre_of(after.masks[0]) == pytest.approx((x - y * math.tan(math.radians(20)), y), abs=0.5)


def test_angles_are_drawn_up_to_their_limits_and_change_nothing_at_0() -> None:
    before = square()
    np.testing.assert_array_equal(affine(before, 0, 0).frames, before.frames)
    np.testing.assert_array_equal(affine(before, 0, 0).masks, before.masks)
    how = Augmentation(0, 0, max_rotation_degrees=25, max_shear_degrees=20)
    seen = set()
    angles = []
    for seed in range(80):
        out = augment(before, np.random.default_rng(seed), how)
        seen.add(out.masks.tobytes())
        x, y = centre_of(out.masks[0])
        flipped = np.random.default_rng(seed).uniform(size=7)[6] < 0.5
        angles.append(math.degrees(math.atan2(y, -x if flipped else x)))
    assert len(seen) > 70
    assert np.ptp(angles) > 30, "about 135 degrees, give or take rotation and shear"


def test_which_frames_are_labelled_is_kept() -> None:
    before = square()
    marked = Example(before.frames, before.windows, before.masks, np.array([True, False]))
    out = augment(marked, np.random.default_rng(0), Augmentation(max_rotation_degrees=25))
    assert out.labelled is marked.labelled

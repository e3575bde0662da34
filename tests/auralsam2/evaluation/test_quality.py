"""The metrics against figures worked out by hand, and against plain loops and scikit-learn on random masks."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import fbeta_score, jaccard_score

from auralsam2.evaluation.quality import (
    BETA_SQUARED,
    THRESHOLDS,
    f_curve,
    f_curves,
    f_score,
    jaccard,
    mean_iou,
    null_score,
)

Mask = npt.NDArray[np.bool_]


def mask(*rows: str) -> Mask:
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_jaccard_by_hand() -> None:
    truth = np.stack([mask("##..", "##.."), mask("....", "...."), mask("....", "....")])
    masks = np.stack([mask(".##.", ".##."), mask("#...", "...."), mask("....", "....")])
    # Overlap 2 of 6 pixels; one of eight pixels wrongly lit; nothing to see and nothing seen.
    assert jaccard(masks, truth) == pytest.approx([2 / 6, 7 / 8, 1.0], abs=1e-6)


def test_an_object_missed_scores_nothing() -> None:
    truth = mask("##..", "....")[None]
    assert jaccard(np.zeros_like(truth), truth) == pytest.approx([0.0])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"masks \[1, 2, 2\] and truth \[1, 2, 3\]"):
        jaccard(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool))


def test_f_curve_by_hand() -> None:
    truth = mask("##..")
    scores = np.array([[0.9, 0.4, 0.6, 0.0]], np.float32)
    curve = f_curve(scores, truth)
    by_hand = {
        0.0: (2 / 4, 1.0),  # every pixel is inside
        0.3: (2 / 3, 1.0),
        0.5: (1 / 2, 1 / 2),
        0.7: (1.0, 1 / 2),
    }
    for threshold, (precision, recall) in by_hand.items():
        wanted = 1.3 * precision * recall / (0.3 * precision + recall)
        assert curve[np.searchsorted(THRESHOLDS, threshold)] == pytest.approx(wanted), threshold
    assert curve[-1] == 0, "at a threshold of one nothing is inside"


def test_f_score_is_the_maximum_of_the_mean_curve_over_frames_with_an_object() -> None:
    truth = np.stack([mask("#."), mask(".#"), mask("..")])
    # The first frame is right below 0.9, the second above 0.5: together at their best between 0.5 and 0.9.
    scores = np.array([[[0.9, 0.0]], [[0.5, 0.95]], [[1.0, 1.0]]], np.float32)
    assert f_score(f_curves(scores, truth)) == pytest.approx(1.0)
    scores[1] = [[0.95, 0.5]]  # right in the first frame only, whatever the threshold above 0.5
    both = 1.3 * 0.5 / (0.3 * 0.5 + 1)
    assert f_score(f_curves(scores, truth)) == pytest.approx((1 + both) / 2)
    assert f_curves(scores, np.zeros_like(truth)).shape == (0, 255)
    assert f_score(f_curves(scores, np.zeros_like(truth))) is None


def test_null_score_by_hand() -> None:
    inside, pixels = np.array([2, 0]), np.array([16, 48])
    assert null_score(inside, pixels, root=True) == pytest.approx(math.sqrt(2 / 16) / 2)
    assert null_score(inside, pixels, root=False) == pytest.approx(2 / 64)
    assert null_score(np.zeros(2, int), pixels, root=True) == null_score(np.zeros(2, int), pixels, root=False) == 0


def test_mean_iou_counts_what_is_empty_on_both_sides_as_agreement() -> None:
    found, wanted = np.zeros((3, 2, 2), bool), np.zeros((3, 2, 2), bool)
    found[0, 0], wanted[0, :, 0] = True, True  # 1 of 3
    found[1, 0, 0] = True  # 0 of 1; the last is empty in both
    assert mean_iou(found, wanted) == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert mean_iou(found[None, :, None], wanted[None, :, None]) == mean_iou(found, wanted)
    with pytest.raises(ValueError, match=r"\[3, 2, 2\] and \[1, 2, 2\]"):
        mean_iou(found, wanted[:1])


def loop_jaccard(masks: Mask, truth: Mask) -> list[float]:
    """The definition, pixel by pixel."""
    values = []
    for guess, wanted in zip(masks, truth, strict=True):
        both = either = empty = 0
        for row in range(guess.shape[0]):
            for column in range(guess.shape[1]):
                both += bool(guess[row, column] and wanted[row, column])
                either += bool(guess[row, column] or wanted[row, column])
                empty += not guess[row, column]
        values.append(both / either if wanted.any() else empty / guess.size)
    return values


@pytest.mark.parametrize("seed", range(5))
def test_jaccard_agrees_with_loops_and_with_scikit_learn_on_random_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(6, 12, 9)) < rng.uniform(0, 0.6, (6, 1, 1))
    truth[1] = False
    masks = rng.uniform(size=truth.shape) < rng.uniform(0, 0.9, (6, 1, 1))
    found = jaccard(masks, truth)
    assert found == pytest.approx(loop_jaccard(masks, truth), abs=1e-6)
    for value, guess, wanted in zip(found, masks, truth, strict=True):
        if wanted.any():
            assert value == pytest.approx(jaccard_score(wanted.ravel(), guess.ravel()), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_f_curve_agrees_with_scikit_learn_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(11, 13)) < 0.3
    scores = rng.uniform(size=truth.shape).astype(np.float32)
    scores.ravel()[: len(THRESHOLDS) // 2] = rng.permutation(THRESHOLDS)[: len(THRESHOLDS) // 2]  # ties
    wanted = [
        fbeta_score(truth.ravel(), (scores >= threshold).ravel(), beta=math.sqrt(BETA_SQUARED), zero_division=0)
        for threshold in THRESHOLDS
    ]
    np.testing.assert_allclose(f_curve(scores, truth), wanted, atol=1e-9)

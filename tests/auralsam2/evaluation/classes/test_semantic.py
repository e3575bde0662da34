"""The semantic metric, held against figures worked out by hand."""

import numpy as np
import pytest

from auralsam2.evaluation.classes.semantic import ClassFigures, SemanticTally

NAMES = ("cat", "dog", "cow")
# Two frames of eight pixels. Background 0, cat 1, dog 2; no cow.
TRUTH = np.array([[[0, 0, 0, 0, 1, 1, 1, 1]], [[0, 0, 0, 0, 0, 0, 2, 2]]], np.uint8)
FOUND = np.array([[[0, 0, 0, 1, 1, 1, 2, 0]], [[0, 0, 0, 0, 0, 2, 2, 2]]], np.uint8)


def f_score(precision: float, recall: float) -> float:
    return 1.3 * precision * recall / (0.3 * precision + recall)


def test_by_frame_and_class_as_avsbench_counts() -> None:
    """Frame 1: background met 3, found 4, true 4: 3/5; cat met 2, found 3, true 4: 2/5; dog found 1, true 0: 0.
    Frame 2: background 5, 5, 6: 5/6; dog 2, 3, 2: 2/3. A class is averaged over the frames in which it occurs.
    """
    tally = SemanticTally(NAMES)
    tally.add(FOUND, TRUTH)
    score = tally.score()
    background, cat, dog = (3 / 5 + 5 / 6) / 2, 2 / 5, (0 + 2 / 3) / 2
    assert score.iou_by_class == pytest.approx({"background": background, "cat": cat, "dog": dog, "cow": None})
    f_background = (f_score(3 / 4, 3 / 4) + f_score(1, 5 / 6)) / 2
    f_cat, f_dog = f_score(2 / 3, 2 / 4), (0 + f_score(2 / 3, 1)) / 2
    wanted = ClassFigures(
        (background + cat + dog) / 3, (f_background + f_cat + f_dog) / 3, (cat + dog) / 2, (f_cat + f_dog) / 2
    )
    assert vars(score.avsbench) == pytest.approx(vars(wanted))
    assert score.num_frames == 2


def test_pooled_sums_come_before_ratios() -> None:
    """Over both frames: background met 8, found 9, true 10; cat 2, 3, 4; dog 2, 4, 2."""
    tally = SemanticTally(NAMES)
    for found, truth in zip(FOUND, TRUTH, strict=True):
        tally.add(found[None], truth[None])
    background, cat, dog = 8 / 11, 2 / 5, 2 / 4
    f_scores = f_score(8 / 9, 8 / 10), f_score(2 / 3, 2 / 4), f_score(2 / 4, 1)
    wanted = ClassFigures(
        (background + cat + dog) / 3, sum(f_scores) / 3, (cat + dog) / 2, (f_scores[1] + f_scores[2]) / 2
    )
    assert vars(tally.score().pooled) == pytest.approx(vars(wanted))


def test_the_truth_is_worth_one_and_other_names_nothing() -> None:
    perfect, exchanged = SemanticTally(NAMES), SemanticTally(NAMES)
    perfect.add(TRUTH, TRUTH)
    exchanged.add(np.where(TRUTH > 0, TRUTH % 3 + 1, 0).astype(np.uint8), TRUTH)
    assert vars(perfect.score().avsbench) == pytest.approx(dict.fromkeys(vars(perfect.score().avsbench), 1.0))
    assert exchanged.score().avsbench.mean_iou_without_background == 0
    assert exchanged.score().iou_by_class["background"] == 1


def test_nothing_anywhere_is_background_alone() -> None:
    tally = SemanticTally(NAMES)
    tally.add(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint8))
    assert tally.score().avsbench == ClassFigures(1.0, 1.0, None, None)


def test_what_cannot_be_counted_is_refused() -> None:
    tally = SemanticTally(NAMES)
    with pytest.raises(ValueError, match="no frame was counted"):
        tally.score()
    with pytest.raises(ValueError, match="label 4 is none of 0 to 3"):
        tally.add(np.full((1, 2, 2), 4, np.uint8), np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"labels \[1, 2, 2\] and truth \[1, 2, 3\]"):
        tally.add(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))

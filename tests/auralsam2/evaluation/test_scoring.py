"""Scores of predictions that are known to be right, wrong, or right in one candidate only."""

import numpy as np
import pytest

from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.scoring import evaluate


@pytest.fixture
def sample() -> Sample:
    """Two frames: a square in the first, nothing in the second. Labels are twice the size of the logits, and oblong."""
    masks = np.zeros((2, 16, 24), bool)
    masks[0, 4:12, 6:18] = True
    return Sample("a", np.zeros((2, 16, 24, 3), np.uint8), np.zeros((2, 15600, 2), np.float32), masks)


def prediction(best: int, object_scores: tuple[float, float] = (5.0, -5.0)) -> Prediction:
    """Candidate 2 is right in the first frame, the others light everything; `best` has the highest predicted IoU."""
    candidates = np.full((2, 3, 8, 8), 6.0, np.float32)
    candidates[:, 2] = -6
    candidates[:, 2, 2:6, 2:6] = 6
    iou = np.zeros((2, 3), np.float32)
    iou[:, best] = 0.9
    return Prediction(candidates, iou, np.array(object_scores, np.float32))


def test_the_three_read_outs_differ_as_they_should(sample: Sample) -> None:
    report = evaluate("a", [sample], lambda s: prediction(best=2))
    assert (report.num_clips, report.num_frames, report.num_frames_without_object) == (1, 2, 1)
    first, iou, occlusion = (report.scores[name] for name in ("first", "iou", "iou_occlusion"))
    # `first` lights all: 96 of 384 pixels are right, and of the second frame none.
    assert first.mean_jaccard_with_object == pytest.approx(96 / 384)
    assert first.mean_jaccard == pytest.approx((96 / 384 + 0) / 2)
    assert first.empty_share == 0
    assert first.null_score == pytest.approx(1.0)
    # `iou` finds the square in both frames; bilinear enlarging rounds its corners.
    assert iou.mean_jaccard_with_object is not None
    assert iou.mean_jaccard_with_object > 0.95
    assert iou.mean_jaccard == pytest.approx((iou.mean_jaccard_with_object + 0.75) / 2, abs=0.01)
    # With the object score the second frame is empty, and right.
    assert occlusion.mean_jaccard == pytest.approx((iou.mean_jaccard_with_object + 1) / 2)
    assert occlusion.empty_share == 0.5
    assert occlusion.mean_f_score is not None
    assert occlusion.mean_f_score > 0.95


def test_a_clip_without_any_object_has_no_f_score(sample: Sample) -> None:
    empty = Sample("b", sample.frames, sample.windows, np.zeros_like(sample.masks))
    score = evaluate("b", [empty], lambda s: prediction(2, (-1.0, -1.0))).scores["iou_occlusion"]
    assert score.mean_f_score is None
    assert score.mean_jaccard_with_object is None
    assert score.mean_jaccard == pytest.approx(1.0)
    assert score.null_score == 0


def test_progress_and_json(sample: Sample) -> None:
    seen: list[int] = []
    record = evaluate("a", [sample, sample, sample], lambda s: prediction(2), seen.append).as_json()
    assert seen == [1, 2, 3]
    assert record["split"] == "a"
    assert set(record["scores"]) == {"first", "iou", "iou_occlusion"}
    assert set(record["scores"]["first"]) >= {"mean_jaccard", "mean_f_score", "null_score"}


def test_no_clip_is_an_error() -> None:
    with pytest.raises(DataError, match="'v1s' holds no clip"):
        evaluate("v1s", [], lambda s: prediction(0))

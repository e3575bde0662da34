"""Scores of predictions that are known to be right, wrong, or right in one candidate only, by both protocols."""

import numpy as np
import pytest

from auralsam2.data.samples import Sample
from auralsam2.errors import DataError, NetworkError
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.protocol import (
    PROJECT_AVSBENCH,
    RELEASED_AVSBENCH,
    RELEASED_REF_AVS,
    Protocol,
)
from auralsam2.evaluation.quality import BETA_SQUARED
from auralsam2.evaluation.scoring import evaluate
from auralsam2.evaluation.tallies import Score


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
    report = evaluate("a", [sample], lambda s: prediction(best=2), protocol=PROJECT_AVSBENCH)
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
    report = evaluate("b", [empty], lambda s: prediction(2, (-1.0, -1.0)), protocol=PROJECT_AVSBENCH)
    score = report.scores["iou_occlusion"]
    assert score.mean_f_score is None
    assert score.mean_jaccard_with_object is None
    assert score.mean_jaccard == pytest.approx(1.0)
    assert score.null_score == 0


def test_progress_and_json(sample: Sample) -> None:
    seen: list[int] = []
    record = evaluate(
        "a", [sample, sample, sample], lambda s: prediction(2), seen.append, protocol=RELEASED_AVSBENCH
    ).as_json()
    assert seen == [1, 2, 3]
    assert record["split"] == "a"
    assert (record["protocol"], record["headline"]) == ("released", "iou")
    assert set(record["scores"]) == {"first", "iou", "iou_occlusion"}
    assert set(record["scores"]["first"]) >= {"mean_jaccard", "mean_f_score", "null_score"}


@pytest.mark.parametrize("field", ["candidates", "iou", "object_score"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_has_no_figures(sample: Sample, field: str, value: float) -> None:
    """A mask of NaN is empty by its logits, and would score as one."""
    broken = prediction(best=2)
    getattr(broken, field).flat[0] = value
    size = getattr(broken, field).size
    with pytest.raises(
        NetworkError, match=rf"^a: 1 of {size} predicted values \({field}\) are not finite.* other weights"
    ):
        evaluate("x", [sample], lambda _sample: broken, protocol=PROJECT_AVSBENCH)


def test_no_clip_is_an_error() -> None:
    with pytest.raises(DataError, match="'v1s' holds no clip"):
        evaluate("v1s", [], lambda s: prediction(0), protocol=PROJECT_AVSBENCH)


# A frame in rows of a picture of 32 x 32 px: which of them the prediction lights, and which the object fills.
Frame = tuple[slice, slice]
SIDE = 32


def clip(*frames: Frame) -> Sample:
    """The labels of some frames."""
    masks = np.zeros((len(frames), SIDE, SIDE), bool)
    for mask, (_, rows) in zip(masks, frames, strict=True):
        mask[rows] = True
    return Sample("a", np.zeros((*masks.shape, 3), np.uint8), np.zeros((len(frames), 15600, 2), np.float32), masks)


def scored(protocol: Protocol, *clips: tuple[Frame, ...]) -> Score:
    """The `iou` figures of some clips, each lit as its frames say."""
    answers = iter(clips)

    def predict(sample: Sample) -> Prediction:
        frames = next(answers)
        candidates = np.full((len(frames), 3, SIDE // 4, SIDE // 4), -60.0, np.float32)
        for logits, (rows, _) in zip(candidates, frames, strict=True):
            logits[:, rows.start // 4 : rows.stop // 4] = 60
        return Prediction(candidates, np.ones((len(frames), 3), np.float32), np.ones(len(frames), np.float32))

    return evaluate("a", [clip(*frames) for frames in clips], predict, protocol=protocol).scores["iou"]


ALL, NOTHING, UPPER = slice(0, SIDE), slice(0, 0), slice(0, SIDE // 2)
RIGHT, MISSED = (ALL, ALL), (NOTHING, ALL)
EMPTY, LIT = (NOTHING, NOTHING), (ALL, NOTHING)


def test_m_j_is_the_mean_over_clips_as_released_and_over_frames_in_the_project() -> None:
    clips = ((RIGHT,), (MISSED, MISSED, MISSED))
    assert scored(RELEASED_AVSBENCH, *clips).mean_jaccard == pytest.approx(1 / 2)
    assert scored(PROJECT_AVSBENCH, *clips).mean_jaccard == pytest.approx(1 / 4)


def test_ref_avs_is_averaged_over_batches_of_four_of_which_the_last_may_be_small() -> None:
    clips = ((RIGHT,), (MISSED,), (MISSED,), (MISSED,), (RIGHT,))
    assert scored(RELEASED_REF_AVS, *clips).mean_jaccard == pytest.approx((1 / 4 + 1) / 2)
    assert scored(RELEASED_AVSBENCH, *clips).mean_jaccard == pytest.approx(2 / 5)


def f_measure(precision: float, recall: float) -> float:
    return (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)


def test_m_f_is_the_maximum_of_a_batch_s_curve() -> None:
    """A clip whose object is missed scores best where every pixel is inside, one that is right anywhere else."""
    right, missed = (UPPER, UPPER), (slice(SIDE // 2, SIDE), UPPER)
    everything = f_measure(0.5, 1.0)
    apart = scored(RELEASED_AVSBENCH, (right,), (missed,)).mean_f_score
    together = scored(RELEASED_REF_AVS, (right,), (missed,)).mean_f_score
    assert apart == pytest.approx((1 + everything) / 2)
    # One threshold for both: at zero each scores `everything`, above it 1 and 0.
    assert together == pytest.approx(everything)


def test_m_f_of_a_clip_without_object_is_zero_as_released_and_left_out_in_the_project() -> None:
    clips = ((RIGHT,), (EMPTY,))
    assert scored(RELEASED_AVSBENCH, *clips).mean_f_score == pytest.approx(1 / 2)
    assert scored(PROJECT_AVSBENCH, *clips).mean_f_score == pytest.approx(1)
    # In a batch of four it adds no curve; a batch of such clips alone counts as zero.
    assert scored(RELEASED_REF_AVS, *clips).mean_f_score == pytest.approx(1)
    assert scored(RELEASED_REF_AVS, *(((RIGHT,),) * 4), *(((EMPTY,),) * 4)).mean_f_score == pytest.approx(1 / 2)


def test_s_is_the_plain_share_as_released_and_the_root_of_each_clip_s_in_the_project() -> None:
    clips = ((LIT, EMPTY, EMPTY, EMPTY), (EMPTY,))
    assert scored(RELEASED_REF_AVS, *clips).null_score == pytest.approx(1 / 5)
    assert scored(PROJECT_AVSBENCH, *clips).null_score == pytest.approx(np.sqrt(1 / 4) / 2)


def test_an_absent_object_enters_m_f_as_one_half_as_released_and_as_nothing_in_the_project() -> None:
    def predict(sample: Sample) -> Prediction:
        candidates = np.full((2, 3, SIDE // 4, SIDE // 4), 60.0, np.float32)
        candidates[0, :, 4:] = -60
        return Prediction(candidates, np.ones((2, 3), np.float32), np.array([1.0, -1.0], np.float32))

    # The first frame is right; the second holds an object in a quarter of its pixels and is called empty.
    sample = clip((UPPER, UPPER), (ALL, slice(0, SIDE // 4)))
    released, own = (
        evaluate("a", [sample], predict, protocol=protocol).scores["iou_occlusion"]
        for protocol in (RELEASED_AVSBENCH, PROJECT_AVSBENCH)
    )
    # At thresholds up to one half every pixel of the second frame is inside.
    assert released.mean_f_score == pytest.approx((1 + f_measure(0.25, 1)) / 2)
    # At threshold zero every pixel of both frames is inside, above it none of the second's: the better of the two.
    assert own.mean_f_score == pytest.approx(max((1 + 0) / 2, (f_measure(0.5, 1) + f_measure(0.25, 1)) / 2))
    assert released.empty_share == own.empty_share == 0.5
    assert released.mean_jaccard == own.mean_jaccard == pytest.approx(0.5)


def test_masks_meet_labels_at_the_network_s_size_as_released_and_at_the_labels_in_the_project() -> None:
    """Labels of 64 px on a network of 32: PIL's nearest pixel is the odd one, so an object in even rows vanishes."""
    masks = np.zeros((2, 2 * SIDE, 2 * SIDE), bool)
    masks[0, ::2] = True
    masks[1, 1::2] = True
    sample = Sample("a", np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 15600, 2), np.float32), masks)
    lit = Prediction(np.full((2, 3, 8, 8), 9.0, np.float32), np.ones((2, 3), np.float32), np.ones(2, np.float32))
    released, own = (
        evaluate("a", [sample], lambda s: lit, protocol=protocol) for protocol in (RELEASED_AVSBENCH, PROJECT_AVSBENCH)
    )
    assert (released.num_frames_without_object, own.num_frames_without_object) == (1, 0)
    assert released.scores["iou"].mean_jaccard == pytest.approx((0 + 1) / 2)
    assert own.scores["iou"].mean_jaccard == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_the_report_names_its_protocol_and_its_read_out(sample: Sample) -> None:
    for protocol, name, headline in (
        (RELEASED_AVSBENCH, "released", "iou"),
        (RELEASED_REF_AVS, "released", "iou"),
        (PROJECT_AVSBENCH, "project", "iou_occlusion"),
    ):
        report = evaluate("a", [sample], lambda s: prediction(2), protocol=protocol)
        assert (report.protocol, report.headline) == (name, headline)

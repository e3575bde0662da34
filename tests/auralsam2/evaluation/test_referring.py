"""What words are worth: what is left out of a clip, what is averaged over what, on clips of a predictor that knows."""

from dataclasses import replace

import numpy as np
import pytest

from auralsam2.data.samples import Sample
from auralsam2.data.world.referring import Referred, refer
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.referring import GIVEN, Scored, give, report, score, score_clip, table

SIDE = 64


def says(sample: Sample, masks: np.ndarray) -> Prediction:
    """A prediction of these masks [T, S, S], a quarter of their size."""
    logits = np.where(masks[:, None, 2::4, 2::4], 20.0, -20.0).astype(np.float32)
    there = np.where(masks.any((1, 2)), 5.0, -5.0).astype(np.float32)
    return Prediction(np.repeat(logits, 3, 1), np.ones((len(masks), 3), np.float32), there)


class Knowing:
    """Outlines the truth to its own sentence, and nothing to another or to none."""

    def __init__(self, referred: Referred) -> None:
        self.words, self.asked = referred.sentence.words, list[tuple[str | None, bool]]()

    def __call__(self, sample: Sample) -> Prediction:
        self.asked.append((sample.expression, bool(sample.windows.any())))
        return says(sample, sample.masks & (sample.expression == self.words))


@pytest.fixture(scope="module")
def clips() -> list[Scored]:
    found = []
    for index in (0, 2, 4):
        referred = refer("seen", index)
        predict = Knowing(referred)
        found.append(score_clip(referred, "the disc that snores", predict))
        assert predict.asked == [
            ("", True),
            (referred.sentence.words, False),
            (referred.sentence.words, True),
            ("the disc that snores", True),
        ]
    return found


def test_a_clip_is_scored_by_what_it_was_given(clips: list[Scored]) -> None:
    for clip in clips:
        assert tuple(clip.scores) == GIVEN
        # Edges: logits have a quarter of the frames' resolution.
        assert clip.scores["both"].jaccard == clip.scores["text"].jaccard >= 0.8
        assert clip.scores["sound"].jaccard == clip.scores["wrong text"].jaccard == 0
        assert clip.scores["both"].empty_share == 0
        assert clip.scores["sound"].empty_share == 1
        assert clip.scores["sound"].null_score == 0


def test_a_split_is_the_mean_of_its_clips_with_an_interval(clips: list[Scored]) -> None:
    clips = [clips[0], clips[1], clips[2]._replace(kind=clips[0].kind, needed=False)]
    found = report("seen", clips)
    both = [clip.scores["both"].jaccard for clip in clips]
    means = found["all"]["both"]
    assert means["clips"] == 3
    assert means["M_J"] == pytest.approx(np.mean(both), abs=1e-5)
    assert min(both) <= means["M_J interval"][0] <= means["M_J"] <= means["M_J interval"][1] <= max(both)
    assert found["needed"]["both"]["clips"] == sum(clip.needed for clip in clips) < 3
    assert found["kinds"][clips[0].kind]["both"]["clips"] == 2
    assert report("null", clips).keys() == {"all"}
    lines = table("seen", found).splitlines()
    assert len(lines) == 1 + 2 * len(GIVEN)
    assert f"{means['M_J']:7.4f}" in lines[3]


def test_null_has_no_f_score_and_an_s() -> None:
    masks = np.zeros((2, SIDE, SIDE), bool)
    sample = Sample(
        "null", np.zeros((2, SIDE, SIDE, 3), np.uint8), np.zeros((2, 15600, 2), np.float32), masks, "the star"
    )
    quiet = score(sample, lambda sample: says(sample, sample.masks))
    assert quiet.jaccard == pytest.approx(1, abs=1e-4)
    assert quiet[1:] == (None, 0, 1)
    marked = np.zeros_like(masks)
    marked[0, :32, :32] = True
    loud = score(sample, lambda sample: says(sample, marked))
    assert loud.f_score is None
    assert loud.empty_share == 0.5
    assert loud.null_score == pytest.approx((1 / 8) ** 0.5, abs=0.01)


def test_giving_leaves_the_clip_as_it_is() -> None:
    sample = Sample(
        "a", np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 15600, 2), np.float32), np.ones((1, 4, 4), bool), "x"
    )
    assert give(sample, "both", "y") is sample
    assert give(sample, "wrong text", "y") == replace(sample, expression="y")
    assert not give(sample, "text", "y").windows.any()
    assert sample.windows.all()

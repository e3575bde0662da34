"""Sound's answer and prompts' answer as one: the three rules, on figures that can be done by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.prompts.combination import combine

Array = npt.NDArray[np.float32]


def answer(masks: list[float], iou: list[float], score: list[float]) -> dict[str, Array]:
    """Two frames of one pixel; candidate k is the mask plus k."""
    logits = np.asarray(masks, np.float32)[:, None, None]
    candidates = logits[:, None] + np.arange(3, dtype=np.float32)[:, None, None]
    ious = np.asarray(iou, np.float32)[:, None] * np.asarray([0.5, 1.0, 0.25], np.float32)
    return {
        "CANDIDATE_LOGITS": candidates,
        "IOU": ious,
        "OBJECT_SCORE": np.asarray(score, np.float32),
        "MASK_LOGITS": logits,
    }


AUDIO = answer([4, -1024], [0.8, 0.4], [3, -2])
PROMPTED = answer([-2, 10], [0.6, 0.5], [1, 6])


def test_the_mean_leaves_empty_what_one_side_leaves_empty() -> None:
    found = combine(AUDIO, PROMPTED, "mean")
    assert found["MASK_LOGITS"].ravel().tolist() == [1.0, (-32 + 10) / 2]
    assert found["CANDIDATE_LOGITS"][0].ravel().tolist() == [1.0, 2.0, 3.0]
    assert found["OBJECT_SCORE"].tolist() == [2.0, 2.0]
    np.testing.assert_allclose(found["IOU"][:, 1], [0.7, 0.45])


def test_the_better_predicted_side_answers_frame_by_frame() -> None:
    found = combine(AUDIO, PROMPTED, "best_iou")
    for name, value in found.items():
        assert np.array_equal(value[0], AUDIO[name][0]), name
        assert np.array_equal(value[1], PROMPTED[name][1]), name


def test_a_union_takes_the_larger_logit() -> None:
    found = combine(AUDIO, PROMPTED, "union")
    assert found["MASK_LOGITS"].ravel().tolist() == [4.0, 10.0]
    assert found["OBJECT_SCORE"].tolist() == [3.0, 6.0]
    np.testing.assert_allclose(found["IOU"][:, 1], [0.7, 0.45])


@pytest.mark.parametrize("rule", ["mean", "best_iou", "union"])
def test_the_answer_is_new_and_has_the_same_shapes(rule: str) -> None:
    found = combine(AUDIO, PROMPTED, rule)
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        name: (value.shape, value.dtype) for name, value in AUDIO.items()
    }
    assert not any(np.shares_memory(value, side[name]) for name, value in found.items() for side in (AUDIO, PROMPTED))


def test_another_rule_is_the_callers_fault() -> None:
    with pytest.raises(BadRequest, match="'product' is unknown; choose one of mean, best_iou, union"):
        combine(AUDIO, PROMPTED, "product")

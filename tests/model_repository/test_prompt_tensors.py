"""What the server makes of prompts on the wire, and what it refuses, without a server."""

from typing import Any

import numpy as np
import pytest

from model_repository.stage_runtime.prompt_tensors import Marks, mode_of, read_marks, rule_of, use_audio
from model_repository.stage_runtime.stage import BadRequest
from tests.model_repository.prompted_stand_in import CLIP, SIDE, S, T, points

BOX = ((3.0, 4.0, 2), (20.0, 30.0, 3))


def test_points_and_a_box_come_apart_and_together_again() -> None:
    tensors = points(*BOX, (5, 6, 1), (7, 8, 0), frame=2)
    marks = read_marks(tensors, CLIP)
    assert marks is not None
    assert marks.frame == 2
    assert marks.box is not None
    assert marks.box.tolist() == [[3, 4], [20, 30]]
    assert marks.points.tolist() == [[5, 6], [7, 8]]
    assert marks.labels.tolist() == [1, 0]
    coords, labels = marks.padded()
    np.testing.assert_array_equal(coords, tensors["POINT_COORDS"])
    np.testing.assert_array_equal(labels, tensors["POINT_LABELS"])
    assert marks.kinds == {"points", "box"}


def test_what_padding_holds_does_not_matter() -> None:
    tensors = points((5, 6, 1))
    tensors["POINT_COORDS"][1:] = np.nan
    marks = read_marks(tensors, CLIP)
    assert marks is not None
    assert np.isfinite(marks.padded()[0]).all()


@pytest.mark.parametrize("frame", [None, -1])
def test_without_a_frame_it_is_the_conditioning_frame(frame: int | None) -> None:
    marks = read_marks(points((5, 6, 1), frame=frame), CLIP)
    assert marks is not None
    assert marks.frame == CLIP.conditioning_frame == 1


def test_no_prompts_are_none() -> None:
    assert read_marks({}, CLIP) is None
    assert read_marks(points(), CLIP) is None
    assert read_marks({"USE_AUDIO": np.array([True])}, CLIP) is None


def test_a_mask_stands_alone() -> None:
    mask = np.ones((SIDE, SIDE), np.float32)
    marks = read_marks({"MASK_INPUT": mask} | points(), CLIP)
    assert marks is not None
    assert marks.kinds == {"mask"}
    mask[:] = 0
    assert marks.mask is not None
    assert marks.mask.all(), "kept beyond the request, whose memory is the server's"


def test_a_mark_outlives_its_request() -> None:
    tensors = points((5, 6, 1))
    marks = read_marks(tensors, CLIP)
    tensors["POINT_COORDS"][:] = 0
    assert marks is not None
    assert marks.points.tolist() == [[5, 6]]


def mask_with(value: float) -> dict[str, Any]:
    mask = np.ones((SIDE, SIDE), np.float32)
    mask[2, 3] = value
    return {"MASK_INPUT": mask}


def padded_in_between() -> dict[str, Any]:
    tensors = points((5, 6, 1), (7, 8, 1))
    tensors["POINT_LABELS"][0] = -1
    return tensors


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (points((S + 1, 6, 1)), ("POINT_COORDS", "(33, 6)", "[0]", "0 to 32")),
        (points((5, 6, 1), (5, -0.5, 1)), ("(5, -0.5)", "[1]")),
        (points((np.nan, 6, 1)), ("nan", "0 to 32")),
        (points((5, 6, 4)), ("POINT_LABELS is 4", "[0]", "1 (on the object)")),
        (points((5, 6, -2)), ("POINT_LABELS is -2",)),
        (padded_in_between(), ("padding", "[0]", "end")),
        (points((5, 6, 1), *BOX), ("corners of a box at [1, 2]", "label 2 at [0]")),
        (points(BOX[0], (5, 6, 1)), ("[0]", "once")),
        (points((20, 4, 2), (3, 30, 3)), ("(20, 4) to (3, 30)", "turned round")),
        (points((3, 4, 2), (3, 30, 3)), ("empty",)),
        (points((5, 6, 1), frame=T), ("PROMPT_FRAME is 3", "0 to 2", "-1 is the conditioning frame, 1")),
        (points((5, 6, 1), frame=-2), ("PROMPT_FRAME is -2",)),
        ({"POINT_COORDS": points((5, 6, 1))["POINT_COORDS"]}, ("POINT_COORDS came alone", "both")),
        ({"POINT_LABELS": points((5, 6, 1))["POINT_LABELS"]}, ("POINT_LABELS came alone",)),
        (mask_with(np.inf), ("MASK_INPUT is inf at [2, 3]", "finite")),
        ({"MASK_INPUT": np.zeros((SIDE, SIDE), np.float32)}, ("nowhere above 0",)),
        (mask_with(1) | points((5, 6, 1)), ("1 points", "one or the other")),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[0],
)
def test_bad_prompts_name_value_limit_and_way_out(tensors: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_marks(tensors, CLIP)
    for word in words:
        assert word in str(refusal.value)


def test_settings_have_what_the_model_does_by_itself_as_default() -> None:
    assert use_audio({})
    assert not use_audio({"USE_AUDIO": np.array([False])})
    assert rule_of({}) == "mean"
    assert [rule_of({"COMBINATION": np.array([n], np.int32)}) for n in range(3)] == ["mean", "best_iou", "union"]
    with pytest.raises(BadRequest, match=r"COMBINATION is 3; must be 0 \(mean\), 1 \(best_iou\), 2 \(union\)"):
        rule_of({"COMBINATION": np.array([3], np.int32)})


def test_modes_have_the_papers_names() -> None:
    assert mode_of(True, set()) == "audio"
    assert mode_of(False, {"box", "points"}) == "points+box"
    assert mode_of(True, {"points", "box"}) == "audio+points+box"
    assert mode_of(True, {"mask"}) == "audio+mask"


def test_a_mark_counts_its_entries() -> None:
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    assert Marks(0, *nothing, box=np.ones((2, 2), np.float32)).num_entries == 2

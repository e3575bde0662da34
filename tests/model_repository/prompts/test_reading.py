"""What the server makes of prompts on the wire, and what it refuses, without a server."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import point_tensors
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.prompts.reading import kinds, mode_of, read_prompts, read_round
from tests.model_repository.prompted_stand_in import CLIP, SIDE, S, T, points

BOX = ((3.0, 4.0, 2), (20.0, 30.0, 3))


def read(tensors: dict[str, Any]) -> Any:
    """The prompt among a request's tensors."""
    return read_prompts(tensors, CLIP).prompt


def test_a_prompt_loses_its_padding_and_goes_back_on_the_wire_as_it_came() -> None:
    tensors = points(*BOX, (5, 6, 1), (7, 8, 0), frame=2)
    prompt = read(tensors)
    assert prompt.frame == 2
    assert prompt.coords.tolist() == [[3, 4], [20, 30], [5, 6], [7, 8]]
    assert prompt.labels.tolist() == [2, 3, 1, 0]
    for name, value in point_tensors(prompt.coords, prompt.labels).items():
        np.testing.assert_array_equal(value, tensors[name])
        assert value.dtype == tensors[name].dtype


@pytest.mark.parametrize(
    ("placed", "wanted"),
    [((*BOX, (5, 6, 1)), {"points", "box"}), (BOX, {"box"}), (((5, 6, 0),), {"points"})],
)
def test_a_prompt_knows_what_it_is_made_of(placed: Any, wanted: set[str]) -> None:
    assert kinds(read(points(*placed))) == wanted


def test_what_padding_holds_does_not_matter() -> None:
    tensors = points((5, 6, 1))
    tensors["POINT_COORDS"][1:] = np.nan
    assert read(tensors).coords.tolist() == [[5, 6]]


@pytest.mark.parametrize("frame", [None, -1])
def test_without_a_frame_it_is_the_conditioning_frame(frame: int | None) -> None:
    assert read(points((5, 6, 1), frame=frame)).frame == CLIP.conditioning_frame == 1


def test_no_prompts_are_none() -> None:
    assert read({}) is None
    assert read(points()) is None
    assert read({"USE_AUDIO": np.array([True])}) is None


def test_a_mask_stands_alone() -> None:
    mask = np.ones((SIDE, SIDE), np.float32)
    prompt = read({"MASK_INPUT": mask} | points())
    assert kinds(prompt) == {"mask"}
    mask[:] = 0
    assert prompt.mask.all(), "kept beyond the request, whose memory is the server's"


def test_a_mark_outlives_its_request() -> None:
    tensors = points((5, 6, 1))
    prompt = read(tensors)
    tensors["POINT_COORDS"][:] = 0
    assert prompt.coords.tolist() == [[5, 6]]


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
        (points((5, 6, 1), (np.inf, 6, 1)), ("(inf, 6)", "[1]", "0 to 32")),
        ({"POINT_COORDS": np.zeros((3, 2), np.float32)}, ("POINT_COORDS: float32 [3, 2]", "must be float32 [16, 2]")),
        ({"POINT_LABELS": np.ones(16, np.int64)}, ("POINT_LABELS: int64 [16]", "must be int32 [16]")),
        ({"MASK_INPUT": np.ones((SIDE, SIDE - 1), np.float32)}, ("MASK_INPUT: float32 [8, 7]", "float32 [8, 8]")),
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
        read(tensors)
    for word in words:
        assert word in str(refusal.value)


def test_settings_have_what_the_model_does_by_itself_as_default() -> None:
    asked = read_prompts({}, CLIP)
    assert (asked.use_audio, asked.rule, asked.propagate, asked.step) == (True, "mean", True, None)
    asked = read_prompts(
        {"USE_AUDIO": np.array([False])} | {name: np.array([0], np.int32) for name in ("PROPAGATE", "STEP")}, CLIP
    )
    assert (asked.use_audio, asked.propagate, asked.step) == (False, False, 0)
    rules = [read_prompts({"COMBINATION": np.array([n], np.int32)}, CLIP).rule for n in range(3)]
    assert rules == ["mean", "best_iou", "union"]
    with pytest.raises(BadRequest, match=r"COMBINATION is 3; must be 0 \(mean\), 1 \(best_iou\), 2 \(union\)"):
        read_prompts({"COMBINATION": np.array([3], np.int32)}, CLIP)
    with pytest.raises(BadRequest, match=r"PROPAGATE is 2; must be 1"):
        read_prompts({"PROPAGATE": np.array([2], np.int32)}, CLIP)


def test_a_round_is_known_by_all_its_tensors() -> None:
    first = read_round(points((5, 6, 1), step=1), CLIP)
    assert first.digest == read_round(points((5, 6, 1), step=1), CLIP).digest
    others = [points((5, 6, 0), step=1), points((5, 6, 1), step=2), points((5, 6, 1), frame=0, step=1)]
    assert first.digest not in {read_round(tensors, CLIP).digest for tensors in others}


def test_modes_have_the_papers_names() -> None:
    assert mode_of(True, set()) == "audio"
    assert mode_of(False, {"box", "points"}) == "points+box"
    assert mode_of(True, {"points", "box"}) == "audio+points+box"
    assert mode_of(True, {"mask"}) == "audio+mask"

"""Prompts in pixels of the input: what goes on the wire, and what is refused before anything is sent."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import MAX_POINTS, prompt_tensors
from auralsam2_client.errors import BadInput
from auralsam2_client.prompts import Prompts, check_prompts, frame_prompt, setting_tensors
from model_repository.stage_runtime.prompts import reading
from model_repository.stage_runtime.prompts.reading import ClipSize
from service.results.prompt_drawing import BESIDE, BOX, ON, draw_prompts

N, HEIGHT, WIDTH, S = 5, 100, 200, 256


def tensors(**given: Any) -> dict[str, Any]:
    return prompt_tensors(frame_prompt(Prompts(**given), N, HEIGHT, WIDTH, S))


def test_coordinates_are_scaled_with_the_frame_and_the_box_comes_first() -> None:
    found = tensors(points=[(100, 25, "+"), (0, 99, "-")], box=(50, 10, 200, 100), frame=3)
    wanted = [[64, 25.6], [256, 256], [128, 64], [0, 253.44]]
    np.testing.assert_array_equal(found["POINT_COORDS"][:4], np.array(wanted, np.float32))
    assert found["POINT_LABELS"].tolist() == [2, 3, 1, 0] + [-1] * 12
    assert found["PROMPT_FRAME"].tolist() == [3]
    types = {name: value.dtype for name, value in found.items()}
    assert types == {"POINT_COORDS": np.float32, "POINT_LABELS": np.int32, "PROMPT_FRAME": np.int32}


def test_what_the_client_sends_is_what_the_server_reads() -> None:
    """One form at both ends of the wire, to the bit."""
    clip = ClipSize(N, S, 2)
    given = Prompts(points=[(199.999, 99.999, 1)] * 14, box=(0, 0, WIDTH, HEIGHT), frame=3)
    sent = frame_prompt(given, N, HEIGHT, WIDTH, S)
    assert len(sent.labels) == MAX_POINTS
    for prompt in (sent, frame_prompt(Prompts(mask=np.ones((HEIGHT, WIDTH)), frame=0), N, HEIGHT, WIDTH, S)):
        read = reading.read_prompts(prompt_tensors(prompt), clip).prompt
        assert read is not None
        assert read.frame == prompt.frame
        np.testing.assert_array_equal(read.coords, prompt.coords)
        np.testing.assert_array_equal(read.labels, prompt.labels)
        np.testing.assert_array_equal(read.mask, prompt.mask)
    anywhere = reading.read_prompts(tensors(points=[(1, 1, "+")]), clip).prompt
    assert anywhere is not None
    assert anywhere.frame == clip.conditioning_frame


def test_numbers_and_signs_mean_the_same() -> None:
    signs, numbers = tensors(points=[(1, 2, "+"), (3, 4, "-")]), tensors(points=[(1, 2, 1), (3, 4, 0)])
    np.testing.assert_array_equal(signs["POINT_LABELS"], numbers["POINT_LABELS"])
    assert "PROMPT_FRAME" not in signs


def test_a_mask_is_above_zero_where_half_a_cell_is_inside() -> None:
    mask = np.zeros((256, 512), bool)
    mask[:128, :256] = True
    found = prompt_tensors(frame_prompt(Prompts(mask=mask), N, 256, 512, S))["MASK_INPUT"]
    assert found.dtype == np.float32
    wanted = np.full((64, 64), -1.0)
    wanted[:32, :32] = 1
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    grey = prompt_tensors(frame_prompt(Prompts(mask=mask * 255), N, 256, 512, S))["MASK_INPUT"]
    np.testing.assert_array_equal(grey, found)


def test_a_mask_thinner_than_a_cell_is_not_lost() -> None:
    mask = np.zeros((2000, 2000), bool)
    mask[1000, 500] = True
    found = prompt_tensors(frame_prompt(Prompts(mask=mask), N, 2000, 2000, S))["MASK_INPUT"]
    assert np.argwhere(found > 0).tolist() == [[32, 16]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"points": [(200, 5, "+")]}, ["points[0]", "(200, 5)", "x must be 0 to 199"]),
        ({"points": [(5, 5, "+"), (5, 100, "+")]}, ["points[1]", "y 0 to 99"]),
        ({"points": [(-1, 5, "+")]}, ["(-1, 5)"]),
        ({"points": [(float("nan"), 5, "+")]}, ["nan"]),
        ({"points": [("1", 5, "+")]}, ["two numbers"]),
        ({"points": [(5, 5)]}, ["(x, y, label)"]),
        ({"points": [(5, 5, 2)]}, ["label 2", '"+" or 1', '"-" or 0']),
        ({"points": [(5, 5, -1)]}, ["label -1"]),
        ({"points": [(5, 5, "x")]}, ["label 'x'"]),
        ({"points": [(5, 5, True)]}, ["label True"]),
        ({"points": [(5, 5, "+")] * 17}, ["17 points take 17 entries", "16", "Leave 1 points out"]),
        ({"points": [(5, 5, "+")] * 15, "box": (1, 1, 9, 9)}, ["15 points and a box take 17", "two of which a box"]),
        ({"box": (9, 1, 3, 8)}, ["(9, 1, 3, 8)", "turned round", "x0 < x1"]),
        ({"box": (3, 1, 3, 8)}, ["empty"]),
        ({"box": (0, 0, 201, 8)}, ["outside", "200 x 100", "Cut it"]),
        ({"box": (0, 0, float("inf"), 8)}, ["four numbers"]),
        ({"box": (0, 0, 8)}, ["four numbers"]),
        ({"points": [(5, 5, "+")], "frame": 5}, ["frame = 5", "0 to 4"]),
        ({"points": [(5, 5, "+")], "frame": -1}, ["frame = -1"]),
        ({"points": [(5, 5, "+")], "frame": 1.0}, ["frame = 1.0"]),
        ({"mask": np.ones((WIDTH, HEIGHT), bool)}, ["[200, 100]", "[100, 200]", "Resize"]),
        ({"mask": np.zeros((HEIGHT, WIDTH), bool)}, ["mask is empty"]),
        ({"mask": np.full((HEIGHT, WIDTH), np.nan)}, ["finite"]),
        ({"mask": np.ones((HEIGHT, WIDTH), bool), "box": (1, 1, 5, 5)}, ["one or the other"]),
        ({}, ["empty; give points, a box or a mask"]),
    ],
)
def test_bad_prompts_name_value_limit_and_way_out(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(BadInput) as refusal:
        check_prompts(Prompts(**given), N, HEIGHT, WIDTH)
    for word in words:
        assert word in str(refusal.value)


def test_settings_go_on_the_wire_only_where_they_differ_from_the_models() -> None:
    assert setting_tensors(True, "mean") == {}
    assert setting_tensors(False, "mean")["USE_AUDIO"].tolist() == [False]
    assert setting_tensors(True, "union")["COMBINATION"].tolist() == [2]
    with pytest.raises(BadInput, match="combination = 'max'; must be one of mean, best_iou, union"):
        setting_tensors(True, "max")


def test_prompts_are_drawn_where_they_are() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = draw_prompts(frame, Prompts(points=[(50, 20, "+"), (150, 80, 0)], box=(10, 30, 90, 70)))
    assert not frame.any()
    assert tuple(drawn[20, 50]) == ON
    assert tuple(drawn[80, 150]) == BESIDE
    assert tuple(drawn[30, 40]) == BOX
    assert not drawn[50, 40].any()

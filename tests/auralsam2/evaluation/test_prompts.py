"""What prompts are worth on the shipped weights; the full figures stand in their model card."""

import pytest
import torch

from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation.prompts import Found, combine, score_prompts
from auralsam2.model.loading import load_aural_sam2

CLIPS = 40


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    # The first of the model card's two hundred: a difference of 0.05 needs many, and others vary by 0.02.
    return score_prompts(read_split("multi", CLIPS), load_aural_sam2("compact")[0])


def test_box_and_points_add_to_sound(figures: dict[str, float]) -> None:
    assert figures["audio+points+box, mean"] >= figures["audio"] + 0.05


def test_each_round_of_clicks_helps(figures: dict[str, float]) -> None:
    assert figures["R1"] < figures["R2"] < figures["R3"]


def test_the_rules_of_combination() -> None:
    audio = Found(torch.tensor([4.0, -1024.0])[:, None, None], torch.tensor([[0.8, 0.1, 0.2], [0.4, 0.1, 0.1]]))
    prompted = Found(torch.tensor([-2.0, 10.0])[:, None, None], torch.tensor([[0.6, 0.6, 0.6], [0.5, 0.5, 0.5]]))
    assert combine(audio, prompted, "mean").ravel().tolist() == [1.0, -11.0]
    assert combine(audio, prompted, "best_iou").ravel().tolist() == [4.0, 10.0]
    assert combine(audio, prompted, "union").ravel().tolist() == [4.0, 10.0]

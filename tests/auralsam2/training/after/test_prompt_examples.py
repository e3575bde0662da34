"""Drawn prompts say what they ask for."""

import numpy as np

from auralsam2.data import world
from auralsam2.training.after.prompt_examples import draw_prompt


def test_prompts_point_at_what_they_ask_for() -> None:
    _, owners = world.Painter(world.draw_scene("multi", "train", 0, 0), 256).draw(0.5)
    rng = np.random.default_rng(3)
    kinds = set()
    for _ in range(60):
        drawn = draw_prompt(owners, rng)
        assert drawn is not None
        x, y = drawn.coords.round().astype(int).T
        points = drawn.labels < 2
        assert drawn.truth[y[points], x[points]].tolist() == drawn.labels[points].tolist()
        assert len(drawn.labels) + 2 <= 16, "a correction or two still fit"
        kinds.add((bool((drawn.labels > 1).any()), bool(points.any())))
    assert kinds == {(True, True), (True, False), (False, True)}


def test_an_empty_frame_is_not_pointed_at() -> None:
    assert draw_prompt(np.full((64, 64), -1, np.int8), np.random.default_rng(0)) is None

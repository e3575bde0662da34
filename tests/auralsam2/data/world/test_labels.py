"""Labels of the world: its clips are the evaluation's, and each pixel has the class of what sounds there."""

import numpy as np
import pytest

from auralsam2.data import world
from auralsam2.data.world.held_out import read_split
from auralsam2.data.world.labels import label_map, open_labelled
from auralsam2.data.world.shapes import SHAPES


@pytest.mark.parametrize("split", world.SPLITS)
def test_clips_are_those_of_the_evaluation(split: world.Split) -> None:
    for reader, sample in zip(open_labelled(split, 2), read_split(split, 2), strict=True):
        clip = reader()
        assert clip.sample.name == sample.name
        np.testing.assert_array_equal(clip.sample.frames, sample.frames)
        np.testing.assert_array_equal(clip.sample.windows, sample.windows)
        np.testing.assert_array_equal(clip.sample.masks, sample.masks)
        np.testing.assert_array_equal(clip.labels > 0, sample.masks)


def test_a_pixel_has_the_class_of_what_sounds_there() -> None:
    scene = world.draw_scene("multi", "held_out", 0, 1)
    second = int(scene.sounding.sum(1).argmax())
    assert scene.sounding[second].sum() > 1
    owners = np.array([[world.NOBODY, *range(len(scene.things))]], np.int8)
    wanted = [
        SHAPES.index(thing.shape) + 1 if on else 0
        for thing, on in zip(scene.things, scene.sounding[second], strict=True)
    ]
    assert label_map(scene, owners, second).tolist() == [[0, *wanted]]

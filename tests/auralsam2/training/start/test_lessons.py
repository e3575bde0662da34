"""What pretraining is shown: labels that fit the pictures and the sounds."""

import numpy as np
import torch

from auralsam2.data import world
from auralsam2.data.world.shapes import SHAPES
from auralsam2.training.start.lessons import NUM_NAMES, names_of, pictures, sounds


def test_names_are_those_of_the_things_whether_or_not_they_sound() -> None:
    scene = world.draw_scene("multi", "train", 0, 4)
    owners = world.Painter(scene, 64).draw(0.5)[1]
    names = names_of(scene, owners)
    assert set(np.unique(names)) == {NUM_NAMES - 1, *(SHAPES.index(thing.shape) for thing in scene.things)}
    assert (names[owners == 0] == SHAPES.index(scene.things[0].shape)).all()
    assert (names[owners == world.NOBODY] == NUM_NAMES - 1).all()


def test_a_flipped_picture_has_flipped_names() -> None:
    frames, names = pictures(0, range(40), 64)
    assert frames.shape == (40, 64, 64, 3)
    assert frames.dtype == torch.uint8
    assert names.shape == (40, 4, 4)
    flipped = 0
    for number in range(40):
        scene = world.draw_scene("multi" if number % 2 else "single", "train", 0, number, 1)
        rng = np.random.default_rng([0, 13, number])
        label = names_of(scene, world.Painter(scene, 64).draw(float(rng.uniform(0, 5)))[1])
        straight, turned = label[8::16, 8::16], label[:, ::-1][8::16, 8::16]
        assert np.array_equal(names[number], straight) or np.array_equal(names[number], turned)
        flipped += not np.array_equal(names[number], straight)
    assert 8 < flipped < 32


def test_timbre_labels_are_who_sounds() -> None:
    heard, labels = sounds(0, range(6))
    assert heard.shape == (30, 15600, 2)
    assert labels.shape == (30, len(SHAPES))
    loud = np.sqrt((heard.numpy() ** 2).mean((1, 2))) > 0.01
    np.testing.assert_array_equal(loud, labels.any(1).numpy())
    scene = world.draw_scene("multi", "train", 0, 3)
    assert labels[15:20].sum() == scene.sounding.sum()

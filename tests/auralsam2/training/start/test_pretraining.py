"""Pretraining: labels that fit the pictures, losses that fall, and the same weights each time."""

import numpy as np
import torch

from auralsam2 import AuralSAM2
from auralsam2.data import world
from auralsam2.data.world.shapes import SHAPES
from auralsam2.training.start import pretraining
from auralsam2.training.start.pretraining import NUM_NAMES, Schedule, learn_pictures, learn_sounds, names_of


def model() -> AuralSAM2:
    torch.manual_seed(0)
    return AuralSAM2.from_preset("compact", 224)


def head() -> torch.nn.Linear:
    return torch.nn.Linear(128, NUM_NAMES)


def test_names_are_those_of_the_things_whether_or_not_they_sound() -> None:
    scene = world.draw_scene("multi", "train", 0, 4)
    owners = world.Painter(scene, 64).draw(0.5)[1]
    names = names_of(scene, owners)
    assert set(np.unique(names)) == {NUM_NAMES - 1, *(SHAPES.index(thing.shape) for thing in scene.things)}
    assert (names[owners == 0] == SHAPES.index(scene.things[0].shape)).all()
    assert (names[owners == world.NOBODY] == NUM_NAMES - 1).all()


def test_a_flipped_picture_has_flipped_names() -> None:
    frames, names = pretraining._pictures(0, range(40), 64)
    assert frames.shape == (40, 3, 64, 64)
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
    heard, labels = pretraining._sounds(0, range(6))
    assert heard.shape == (30, 15600, 2)
    assert labels.shape == (30, len(SHAPES))
    loud = np.sqrt((heard**2).mean((1, 2))) > 0.01
    np.testing.assert_array_equal(loud, labels.any(1).numpy())
    scene = world.draw_scene("multi", "train", 0, 3)
    assert labels[15:20].sum() == scene.sounding.sum()


def test_vggish_learns_timbres_within_some_dozen_steps() -> None:
    losses: list[float] = []
    learn_sounds(
        model(), head(), 0, Schedule(0, 40, clips_per_step=4, warmup_steps=5), lambda w, s, n, loss: losses.append(loss)
    )
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_the_image_encoder_learns_and_nothing_else_moves() -> None:
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses: list[float] = []
    schedule = Schedule(12, 0, frames_per_step=6, warmup_steps=2)
    learn_pictures(network, head(), 0, schedule, lambda w, s, n, loss: losses.append(loss))
    assert np.mean(losses[-3:]) < np.mean(losses[:2])
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("v_model.image_encoder.") for name in moved)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again = model(), model()
    for network in (first, again):
        pretraining.pretrain(network, 3, Schedule(1, 1, frames_per_step=2, clips_per_step=1), lambda *a: None)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())

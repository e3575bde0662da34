"""The procedural world: same seed, same clip; splits that keep their promises; a truth that fits the picture."""

import dataclasses
import itertools

import numpy as np
import pytest

from auralsam2.data import world
from auralsam2.data.world import surfaces, timbres
from auralsam2.data.world.shapes import LOOK_ALIKE, SHAPES
from auralsam2.errors import NetworkError
from auralsam2.network.log_mel import SAMPLE_RATE
from auralsam2_client.media.sound_windows import clip_windows

SCENES = 150


def scenes(split: world.Split, part: world.Part = "held_out", seed: int = 3) -> list[world.Scene]:
    return [world.draw_scene(split, part, seed, index) for index in range(SCENES)]


def test_the_same_arguments_give_the_same_clip_and_others_another() -> None:
    first, again = (world.clip("multi", "train", 5, 2, size=64) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.sound, again.sound)
    np.testing.assert_array_equal(first.masks, again.masks)
    for split, part, seed, index in (
        ("multi", "train", 5, 3),
        ("multi", "train", 6, 2),
        ("multi", "held_out", 5, 2),
        ("single", "train", 5, 2),
    ):
        other = world.clip(split, part, seed, index, size=64)  # type: ignore[arg-type]
        assert not np.array_equal(first.frames, other.frames)
        assert not np.array_equal(first.sound, other.sound)


@pytest.mark.parametrize("num_frames", [1, 5, 10])
def test_shapes_and_types(num_frames: int) -> None:
    clip = world.clip("multi", "held_out", 0, 0, size=224, num_frames=num_frames)
    assert clip.frames.shape == (num_frames, 224, 224, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.sound.shape == (num_frames * SAMPLE_RATE, 2)
    assert clip.sound.dtype == np.float32
    assert clip.masks.shape == (num_frames, 224, 224)
    assert np.abs(clip.sound).max() <= 1


@pytest.mark.parametrize("split", world.SPLITS)
def test_two_to_five_things_of_different_classes_on_the_picture(split: world.Split) -> None:
    counts = set()
    for scene in scenes(split):
        counts.add(len(scene.things))
        assert len({thing.shape for thing in scene.things}) == len(scene.things)
        for thing, time_s in itertools.product(scene.things, (0.5, 2.5, 4.5)):
            assert all(0 < c < 1 for c in thing.centre(time_s))
    assert counts == {2, 3, 4, 5}


def test_who_sounds() -> None:
    single = [scene.sounding.any(0).sum() for scene in scenes("single")]
    assert set(single) == {0, 1}, "one source, or a clip that is silent throughout"
    multi = [scene.sounding.any(0).sum() for scene in scenes("multi")]
    assert set(multi) <= {0, 1, 2, 3}
    assert np.mean(np.array(multi) >= 2) > 0.75
    sounding = np.concatenate([scene.sounding.sum(1) for scene in scenes("multi")])
    assert set(sounding) == {0, 1, 2, 3}, "any subset sounds in a second, including none"


def test_every_class_is_seen_and_heard_alike() -> None:
    heard = dict.fromkeys(SHAPES, 0)
    for scene in scenes("single") + scenes("multi"):
        for thing, on in zip(scene.things, scene.sounding.any(0), strict=True):
            heard[thing.shape] += bool(on)
    assert len(heard) >= 6
    assert min(heard.values()) > 0.6 * max(heard.values())


def test_look_alikes_differ_in_class_only() -> None:
    found = 0
    for scene in scenes("multi"):
        for one, other in itertools.combinations(scene.things, 2):
            if one.texture is other.texture:
                found += 1
                assert LOOK_ALIKE[one.shape] == other.shape
                assert one.radius == other.radius
    assert 0.2 * SCENES < found < 0.4 * SCENES


def test_the_unseen_split_holds_nothing_that_training_shows() -> None:
    train = scenes("single", "train") + scenes("multi", "train")
    unseen = scenes("unseen")
    assert {s.backdrop.kind for s in unseen}.isdisjoint(s.backdrop.kind for s in train)
    assert {t.texture.kind for s in unseen for t in s.things}.isdisjoint(
        t.texture.kind for s in train for t in s.things
    )
    assert {t.shape for s in unseen for t in s.things} == {t.shape for s in train for t in s.things} == set(SHAPES)
    pitches = np.array([t.voice.pitch for s in unseen for t in s.things])
    (low, high), *_ = timbres.SEEN_PITCHES
    assert not ((pitches >= low) & (pitches <= high)).any()
    assert (pitches < low).any()
    assert (pitches > high).any()
    assert all(low <= t.voice.pitch <= high for s in train for t in s.things)
    assert set(surfaces.SEEN_TEXTURES).isdisjoint(surfaces.UNSEEN_TEXTURES)


def test_the_truth_is_the_visible_part_of_what_sounds() -> None:
    scene = world.draw_scene("multi", "held_out", 0, 1)
    clip = world.render(scene, 128)
    painter = world.Painter(scene, 128)
    for second, row in enumerate(scene.sounding):
        picture, owners = painter.draw(second + 0.5)
        np.testing.assert_array_equal(clip.frames[second], picture)
        assert set(np.unique(owners)) == {world.NOBODY, *range(len(scene.things))}
        wanted = np.zeros((128, 128), bool)
        for number in np.flatnonzero(row):
            wanted |= owners == number
        np.testing.assert_array_equal(clip.masks[second], wanted)


def test_a_thing_in_front_hides_what_is_behind() -> None:
    scene = world.draw_scene("multi", "held_out", 0, 1)
    behind, front = scene.things[:2]
    front = dataclasses.replace(front, home=behind.home, sway=behind.sway, sway_hz=behind.sway_hz)
    front = dataclasses.replace(front, sway_phase=behind.sway_phase, shape="disc", radius=0.2)
    both = dataclasses.replace(scene, things=(behind, front), sounding=np.array([[True, False]]))
    alone = dataclasses.replace(both, things=(behind,), sounding=np.array([[True]]))
    assert world.render(alone, 128).masks.sum() > 100
    assert world.render(both, 128).masks.sum() == 0


def test_the_picture_does_not_tell_who_sounds() -> None:
    scene = world.draw_scene("multi", "held_out", 0, 1)
    silent = dataclasses.replace(scene, sounding=np.zeros_like(scene.sounding))
    np.testing.assert_array_equal(world.render(scene, 96).frames, world.render(silent, 96).frames)


def test_things_move() -> None:
    frames = world.clip("single", "held_out", 0, 0, size=96).frames.astype(int)
    assert (np.abs(np.diff(frames, axis=0)) > 30).any((1, 2, 3)).all()


def test_each_frames_window_holds_its_own_second_and_next_to_nothing_of_others() -> None:
    scene = world.draw_scene("multi", "held_out", 0, 1)
    base = dataclasses.replace(scene, noise_floor=0.0)
    for second in range(5):
        sounding = np.zeros_like(scene.sounding)
        sounding[second, 0] = True
        heard = clip_windows(world.play(dataclasses.replace(base, sounding=sounding)), 5)
        energy = (heard**2).sum((1, 2))
        assert energy.argmax() == second
        assert energy[second] > 0.9 * energy.sum()


def test_sound_is_panned_to_where_its_source_is() -> None:
    checked = 0
    for scene in scenes("single"):
        loud = scene.sounding.any(0)
        if not loud.any():
            continue
        x = scene.things[int(loud.argmax())].centre(2.5)[0]
        left, right = (world.play(scene) ** 2).sum(0)
        if abs(x - 0.5) > 0.1:
            assert (left > right) == (x < 0.5)
            checked += 1
        if checked == 10:
            return
    raise AssertionError("too few clips with a source at a side")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("triple", "train", 0, 0), "split 'triple' is unknown"),
        (("unseen", "train", 0, 0), "'unseen' has no training part"),
        (("single", "train", 0, 0, 17), "num_frames 17; a clip holds 1 to 16"),
    ],
)
def test_what_cannot_be_drawn_is_named(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        world.draw_scene(*arguments)  # type: ignore[arg-type]

"""Sentences about a scene: true of one thing or of none, the same for the same seed, unseen words never met before."""

import numpy as np
import pytest

from auralsam2.data.world.scenes import Scene, Split, draw_scene
from auralsam2.data.world.sentences import KINDS, TEXTURES, VERBS, Kind, Sentence, draw_sentence
from auralsam2.data.world.shapes import SHAPES
from auralsam2.data.world.surfaces import SEEN_TEXTURES, UNSEEN_TEXTURES
from auralsam2.data.world.timbres import TIMBRES

NUM_SCENES = 60


def scenes(kind: Kind | None = None) -> list[Scene]:
    """Of several things that sound; of one where a sentence says no more than that it does."""
    split: Split = "single" if kind == "sounding" else "multi"
    return [draw_scene(split, "train", 3, index) for index in range(NUM_SCENES)]


def drawn(scene: Scene, kind: Kind, *, unseen: bool = False) -> Sentence | None:
    return draw_sentence(scene, np.random.default_rng([*scene.seed, KINDS.index(kind)]), kind, unseen=unseen)


def true_of(sentence: Sentence, scene: Scene) -> set[int]:
    """The things of which the words are true, read by themselves."""
    words, found = f" {sentence.words} ", set()
    for number, thing in enumerate(scene.things):
        others = [other for index, other in enumerate(scene.things) if index != number]
        claims = [f" {shape} " not in words or shape == thing.shape for shape in SHAPES]
        claims += [f" {look} " not in words or look == TEXTURES[thing.texture.kind] for look in TEXTURES.values()]
        sounds = bool(scene.sounding[:, number].any())
        claims.append(" sounds " not in words or sounds)
        claims += [f" {verb} " not in words or (shape == thing.shape and sounds) for shape, verb in VERBS.items()]
        x, y = thing.home
        for place, is_there in {
            "leftmost": all(x < other.home[0] for other in others),
            "rightmost": all(x > other.home[0] for other in others),
            "highest": all(y < other.home[1] for other in others),
            "lowest": all(y > other.home[1] for other in others),
        }.items():
            claims.append(f" {place} " not in words or is_there)
        if all(claims):
            found.add(number)
    return found


def test_every_class_and_texture_has_a_word_of_its_own() -> None:
    assert set(VERBS) == set(SHAPES) == set(TIMBRES)
    assert set(TEXTURES) == {*SEEN_TEXTURES, *UNSEEN_TEXTURES}
    assert len(set(VERBS.values())) == len(VERBS)
    assert len(set(TEXTURES.values())) == len(TEXTURES)


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_is_true_of_one_thing_or_of_none(kind: Kind, unseen: bool) -> None:
    found = [(sentence, scene) for scene in scenes(kind) if (sentence := drawn(scene, kind, unseen=unseen)) is not None]
    assert len(found) >= NUM_SCENES // 2
    for sentence, scene in found:
        wanted = set() if sentence.thing is None else {sentence.thing}
        assert true_of(sentence, scene) == wanted, (sentence, [thing.shape for thing in scene.things])
        assert (sentence.thing is None) == (kind == "null")


@pytest.mark.parametrize("kind", ["sound", "look and sound", "sounding"])
def test_what_is_named_by_its_sound_sounds_and_in_silence_nothing_is(kind: Kind) -> None:
    for scene in scenes(kind):
        sentence = drawn(scene, kind)
        assert (sentence is None) == (not scene.sounding.any())
        if sentence is not None:
            assert scene.sounding[:, sentence.thing].any()


def test_the_same_seed_says_the_same_and_unseen_words_are_others() -> None:
    for kind in KINDS:
        scene = next(scene for scene in scenes(kind) if drawn(scene, kind))
        assert drawn(scene, kind) == drawn(scene, kind)
        seen, unseen = drawn(scene, kind), drawn(scene, kind, unseen=True)
        assert seen is not None
        assert unseen is not None
        assert seen.words != unseen.words
        assert seen.thing == unseen.thing

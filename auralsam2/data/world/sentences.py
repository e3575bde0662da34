"""What a person says of a scene: sentences that refer to one of its things, or to none.

As Ref-AVS has them, a sentence names its thing by look, by sound, by place, by look and sound at once, or only as the
one that sounds, which nobody knows without hearing it; a null sentence names one that is not there. Each is true of
exactly one thing of the scene, or of none. Half of the forms are held out: the same meaning in other words, for the
unseen split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from auralsam2.data.world.scenes import Scene, Thing
from auralsam2.data.world.shapes import SHAPES, Shape

Kind = Literal["look", "sound", "place", "look and sound", "sounding", "null"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What each class does when it sounds: its timbre, as a person names it.
VERBS: Mapping[Shape, str] = {
    "disc": "rings",
    "ring": "blows",
    "square": "rattles",
    "cross": "twangs",
    "triangle": "chirps",
    "star": "whistles",
}
TEXTURES: Mapping[str, str] = {
    "plain": "plain",
    "stripes": "striped",
    "gradient": "shaded",
    "speckle": "speckled",
    "checks": "checked",
    "rings": "ringed",
    "dots": "dotted",
}
PLACES: Mapping[str, Callable[[Thing], float]] = {
    "leftmost": lambda thing: thing.home[0],
    "rightmost": lambda thing: -thing.home[0],
    "highest": lambda thing: thing.home[1],
    "lowest": lambda thing: -thing.home[1],
}
LEAST_APART = 0.15
"""Of a place: between the first and the next, in sides of the picture. Things drift by 0.06 at most."""


@dataclass(frozen=True)
class Forms:
    """The words of each kind, with places for a shape's name, its look, its verb and its place."""

    look: str
    sound: str
    place: str
    look_and_sound: str
    sounding: str


SEEN = Forms(
    "the {look} {shape}",
    "the shape that {verb}",
    "the {place} shape",
    "the {look} shape that {verb}",
    "the shape that sounds",
)
UNSEEN = Forms(
    "the {shape} with the {look} surface",
    "whatever {verb}",
    "the shape that is {place}",
    "what {verb} and is {look}",
    "whatever sounds here",
)


@dataclass(frozen=True)
class Sentence:
    """Words, and the number of the thing in the scene that they refer to; None where they refer to nothing."""

    words: str
    thing: int | None
    kind: Kind


def draw_sentence(scene: Scene, rng: np.random.Generator, kind: Kind, *, unseen: bool = False) -> Sentence | None:
    """Draw a sentence of a kind about a scene; None where the scene has nothing that only one such sentence fits.

    Sentences about sound are about things that sound at some time; where several do, only the sound of each tells
    which, and a sentence without it would not.

    Args:
        unseen: in the words that training does not meet.
    """
    forms = UNSEEN if unseen else SEEN
    if kind == "null":
        return _null(scene, rng, forms)
    found = [sentence for number in range(len(scene.things)) for sentence in _about(scene, number, kind, forms)]
    return found[int(rng.integers(len(found)))] if found else None


def _about(scene: Scene, number: int, kind: Kind, forms: Forms) -> list[Sentence]:
    """What of a kind can be said of one thing alone."""
    thing, sounds = scene.things[number], bool(scene.sounding[:, number].any())
    look, verb = TEXTURES[thing.texture.kind], VERBS[thing.shape]
    if kind == "place":
        return [Sentence(forms.place.format(place=place), number, kind) for place in _places(scene, number)]
    if kind == "look":
        # No class is twice in a scene.
        return [Sentence(forms.look.format(look=look, shape=thing.shape), number, kind)]
    if not sounds:
        return []
    if kind == "sounding":
        return [Sentence(forms.sounding, number, kind)] if scene.sounding.any(0).sum() == 1 else []
    form = forms.sound if kind == "sound" else forms.look_and_sound
    return [Sentence(form.format(look=look, verb=verb), number, kind)]


def _places(scene: Scene, number: int) -> list[str]:
    """The places that one thing has, well before the next."""
    found = []
    for place, along in PLACES.items():
        (_, first), (next_at, _) = sorted((along(thing), other) for other, thing in enumerate(scene.things))[:2]
        if first == number and next_at - along(scene.things[number]) >= LEAST_APART:
            found.append(place)
    return found


def _null(scene: Scene, rng: np.random.Generator, forms: Forms) -> Sentence | None:
    """Words about a class that is not there, about a sound that nothing in the scene makes, or about any in silence."""
    there = {thing.shape for thing in scene.things}
    silent = {thing.shape for number, thing in enumerate(scene.things) if not scene.sounding[:, number].any()}
    looks = [TEXTURES[thing.texture.kind] for thing in scene.things]
    choices = [forms.look.format(look=looks[0], shape=shape) for shape in SHAPES if shape not in there]
    choices += [forms.sound.format(verb=VERBS[shape]) for shape in SHAPES if shape in silent or shape not in there]
    choices += [] if scene.sounding.any() else [forms.sounding]
    return Sentence(choices[int(rng.integers(len(choices)))], None, "null") if choices else None

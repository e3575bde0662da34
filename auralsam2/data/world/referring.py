"""Clips of the procedural world with a sentence, as Ref-AVS has them: seen, unseen and null.

The truth is what the sentence refers to, in every frame that shows it, whether or not it sounds at that moment: a
sentence about sound tells which thing, not when. A null sentence refers to nothing, and its truth is empty. "seen" and
"null" are held-out scenes of the splits "single" and "multi" in turn, "unseen" those of the split "unseen", whose
surfaces, backdrops and pitches training never shows, in words that it never meets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.samples import Sample, Unread
from auralsam2.data.world.held_out import NUM_CLIPS, SEED
from auralsam2.data.world.scenes import Painter, Scene, Split, draw_scene, mask_of, play
from auralsam2.data.world.sentences import KINDS, Kind, Sentence, draw_sentence
from auralsam2.errors import DataError
from auralsam2_client.media.sound_windows import clip_windows

ReferringSplit = Literal["seen", "unseen", "null"]
REFERRING_SPLITS: tuple[ReferringSplit, ...] = get_args(ReferringSplit)
POSITIVE_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "null")
_STREAM = 29


@dataclass(frozen=True)
class Referred:
    """One scene and what is said of it."""

    name: str
    scene: Scene
    sentence: Sentence

    @property
    def needed(self) -> bool:
        """Whether sound alone marks something else: more, less or another than the thing."""
        sounding = set(np.flatnonzero(self.scene.sounding.any(0)).tolist())
        return sounding != ({self.sentence.thing} - {None})


@dataclass(frozen=True)
class Drawn:
    """A scene as it is seen and heard."""

    frames: NDArray[np.uint8]
    """[T, S, S, 3] RGB."""
    windows: NDArray[np.float32]
    """[T, 15600, 2]."""
    owners: NDArray[np.int8]
    """[T, S, S]: the thing seen at each pixel."""


def draw(scene: Scene, size: int) -> Drawn:
    """Draw and play a scene, a frame a second."""
    painter = Painter(scene, size)
    frames, owners = zip(*(painter.draw(second + 0.5) for second in range(scene.num_frames)), strict=True)
    return Drawn(np.stack(frames), clip_windows(play(scene), scene.num_frames), np.stack(owners))


def mask_of_thing(owners: NDArray[np.int8], thing: int | None) -> NDArray[np.bool_]:
    """Select the pixels [..., S, S] of one thing; none for None."""
    return np.zeros(owners.shape, bool) if thing is None else owners == thing


def mask_of_sounding(owners: NDArray[np.int8], scene: Scene) -> NDArray[np.bool_]:
    """Select the pixels [T, S, S] of what sounds in each frame: the truth where nothing is said."""
    return np.stack([mask_of(own, row) for own, row in zip(owners, scene.sounding, strict=True)])


def say(scene: Scene, rng: np.random.Generator, first: int, *, unseen: bool = False) -> Sentence:
    """Draw a sentence that refers to something, of kind `first` or the next that the scene has one of."""
    kinds = (POSITIVE_KINDS[(first + step) % len(POSITIVE_KINDS)] for step in range(len(POSITIVE_KINDS)))
    said = (draw_sentence(scene, rng, kind, unseen=unseen) for kind in kinds)
    return next(sentence for sentence in said if sentence is not None)  # a look is there always


def refer(split: ReferringSplit, index: int, seed: int = SEED) -> Referred:
    """Draw clip `index` of a split, its kinds of sentences in turn. Raises: DataError for an unknown split."""
    if split not in REFERRING_SPLITS:
        raise DataError(f"split {split!r} is unknown; choose one of {', '.join(REFERRING_SPLITS)}.")
    rng = np.random.default_rng([seed, _STREAM, REFERRING_SPLITS.index(split), index])
    # Of the split "unseen" every second scene has one source; so they do here.
    where: Split = "unseen" if split == "unseen" else "multi" if index % 2 else "single"
    scene = draw_scene(where, "held_out", seed, index)
    if split == "null":
        sentence = draw_sentence(scene, rng, "null", unseen=bool(index // 2 % 2))
        assert sentence is not None, "six classes, and a scene holds five at most"
    else:
        sentence = say(scene, rng, index // 2, unseen=split == "unseen")
    return Referred(f"{split}-{index:05d}", scene, sentence)


def read(referred: Referred, size: int = 256) -> Sample:
    """Draw a clip as a sample with its expression."""
    drawn = draw(referred.scene, size)
    masks = mask_of_thing(drawn.owners, referred.sentence.thing)
    return Sample(referred.name, drawn.frames, drawn.windows, masks, referred.sentence.words)


def open_split(split: ReferringSplit, count: int = NUM_CLIPS, seed: int = SEED) -> list[Unread]:
    """List the first `count` clips of a split; each is drawn when it is asked for."""
    found = [refer(split, index, seed) for index in range(count)]
    return [Unread(referred.name, partial(read, referred)) for referred in found]


def read_split(split: ReferringSplit, count: int = NUM_CLIPS, seed: int = SEED) -> Iterator[Sample]:
    """Read the first `count` clips of a split. Raises: DataError for an unknown split."""
    return (clip.read() for clip in open_split(split, count, seed))

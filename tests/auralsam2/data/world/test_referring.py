"""Referring clips: the truth is the thing throughout, null is empty, splits are what they say, drawn the same again."""

import numpy as np
import pytest

from auralsam2.data.world.referring import (
    POSITIVE_KINDS,
    REFERRING_SPLITS,
    ReferringSplit,
    mask_of_sounding,
    mask_of_thing,
    open_split,
    read,
    read_split,
    refer,
    say,
)
from auralsam2.data.world.scenes import Scene, draw_scene, render
from auralsam2.data.world.sentences import draw_sentence
from auralsam2.data.world.surfaces import SEEN_TEXTURES, UNSEEN_TEXTURES
from auralsam2.errors import DataError
from auralsam2.text.tokeniser import UNKNOWN, Tokeniser

NUM_CLIPS = 40
SIZE = 64


def looks(scene: Scene) -> set[str]:
    return {thing.texture.kind for thing in scene.things}


@pytest.mark.parametrize("split", REFERRING_SPLITS)
def test_a_split_is_what_it_says(split: ReferringSplit) -> None:
    tokenise = Tokeniser()
    clips = [refer(split, index) for index in range(NUM_CLIPS)]
    assert [clip.name for clip in clips[:2]] == [f"{split}-00000", f"{split}-00001"]
    for clip in clips:
        unknown = UNKNOWN in tokenise(clip.sentence.words)
        assert (clip.sentence.thing is None) == (split == "null")
        assert looks(clip.scene) <= set(UNSEEN_TEXTURES if split == "unseen" else SEEN_TEXTURES)
        assert clip.scene.seed[2] == 1, "held out"
        if split != "null":
            assert unknown == (split == "unseen")
    kinds = {clip.sentence.kind for clip in clips}
    assert kinds == ({"null"} if split == "null" else set(POSITIVE_KINDS))
    needed = [clip.needed for clip in clips]
    assert any(needed)
    assert split == "null" or not all(needed)


def test_the_truth_is_the_thing_whether_or_not_it_sounds() -> None:
    silent_frames = 0
    for index in range(6):
        referred = refer("seen", index)
        thing = referred.sentence.thing
        assert thing is not None
        sample = read(referred, SIZE)
        assert sample.expression == referred.sentence.words
        assert sample.frames.shape == (5, SIZE, SIZE, 3)
        assert sample.windows.shape == (5, 15600, 2)
        shown = render(referred.scene, SIZE)
        np.testing.assert_array_equal(sample.frames, shown.frames)
        for frame, sounds in enumerate(referred.scene.sounding[:, thing]):
            assert sample.masks[frame].any()
            silent_frames += not sounds
            if sounds:
                assert not (sample.masks[frame] & ~shown.masks[frame]).any()
            else:
                assert not (sample.masks[frame] & shown.masks[frame]).any()
    assert silent_frames > 0


def test_null_is_empty_and_the_same_clip_is_drawn_again() -> None:
    first, again = next(read_split("null", 1)), open_split("null", 2)[0].read()
    assert not first.masks.any()
    assert first.expression == again.expression
    for name in ("frames", "windows", "masks"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_masks_of_things_and_of_what_sounds() -> None:
    scene = draw_scene("multi", "train", 0, 4)
    owners = np.array([[[-1, 0], [1, 1]]] * scene.num_frames, np.int8)
    np.testing.assert_array_equal(mask_of_thing(owners, 1), owners == 1)
    assert not mask_of_thing(owners, None).any()
    sounding = mask_of_sounding(owners, scene)
    for frame, row in enumerate(scene.sounding):
        assert sounding[frame].tolist() == [[False, bool(row[0])], [bool(row[1]), bool(row[1])]]


def test_a_kind_that_a_scene_has_none_of_gives_way_to_the_next() -> None:
    scene = next(
        scene
        for scene in (draw_scene("multi", "train", 0, index) for index in range(50))
        if draw_sentence(scene, np.random.default_rng(0), "sounding") is None
    )
    said = say(scene, np.random.default_rng(0), POSITIVE_KINDS.index("sounding"))
    assert said.kind == POSITIVE_KINDS[0]


def test_an_unknown_split_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="split 'multi' is unknown; choose one of seen, unseen, null"):
        refer("multi", 0)  # type: ignore[arg-type]

import numpy as np
import pytest

from auralsam2.training.examples import clips


@pytest.fixture(scope="module")
def example() -> clips.Example:
    return clips.procedural(0, 64)(3, 5)


def test_a_source_gives_the_same_clip_for_the_same_number(example: clips.Example) -> None:
    source = clips.procedural(0, 64)
    again, other = source(3, 5), source(4, 5)
    np.testing.assert_array_equal(example.frames, again.frames)
    np.testing.assert_array_equal(example.windows, again.windows)
    assert not np.array_equal(example.frames, other.frames)


def test_both_splits_come_up_in_their_share() -> None:
    names = []
    source = clips.world.clip
    try:
        clips.world.clip = lambda split, *a, **k: names.append(split) or source(split, *a, **k)  # type: ignore[assignment,func-returns-value]
        for number in range(60):
            clips.procedural(0, 16, multi_share=0.6)(number, 1)
    finally:
        clips.world.clip = source
    assert 24 <= names.count("multi") <= 48
    assert set(names) == {"single", "multi"}


def test_without_sound_only_the_sound_is_gone(example: clips.Example) -> None:
    silent = clips.without_sound(clips.procedural(0, 64))(3, 5)
    assert not silent.windows.any()
    np.testing.assert_array_equal(silent.frames, example.frames)
    np.testing.assert_array_equal(silent.masks, example.masks)

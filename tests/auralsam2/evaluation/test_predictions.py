import numpy as np
import pytest

from auralsam2.data.samples import Sample, Unread
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import SOUNDS, Sound, with_sound


def sample(number: int) -> Sample:
    return Sample(
        str(number),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.full((1, 15600, 2), number / 10, np.float32),
        np.zeros((1, 4, 4), bool),
    )


def heard(sound: str, count: int = 3) -> list[float]:
    clips = with_sound([sample(n) for n in range(1, count + 1)], sound)  # type: ignore[arg-type]
    samples = [clip.read() for clip in clips]
    return [float(s.windows[0, 0, 0]) * 10 for s in samples]


def test_own_sound_is_left_alone() -> None:
    assert heard("own") == pytest.approx([1, 2, 3])


def test_every_clip_hears_another() -> None:
    assert sorted(heard("other")) == pytest.approx([1, 2, 3])
    samples = [clip.read() for clip in with_sound([sample(n) for n in (1, 2, 3)], "other")]
    assert [s.name for s in samples] == [f"{n} with the sound of {other}" for n, other in ((2, 1), (3, 2), (1, 3))]
    assert [float(s.windows[0, 0, 0]) * 10 for s in samples] == pytest.approx([1, 2, 3])


def broken(name: str) -> Unread:
    def fail() -> Sample:
        raise DataError("broken")

    return Unread(name, fail)


@pytest.mark.parametrize("sound", SOUNDS)
def test_a_clip_that_cannot_be_read_passes_through_and_lends_no_sound(sound: Sound) -> None:
    clips = list(with_sound([broken("a"), sample(1), broken("b"), sample(2), sample(3), broken("c")], sound))
    faulty = {clip.name for clip in clips if isinstance(clip, Unread) and clip.name in "abc"}
    assert faulty == {"a", "b", "c"}
    for clip in clips:
        if clip.name in faulty:
            with pytest.raises(DataError, match="broken"):
                clip.read()
    found = [clip.read() for clip in clips if clip.name not in faulty]
    alone = [clip.read() for clip in with_sound([sample(1), sample(2), sample(3)], sound)]
    assert [(s.name, s.windows.max()) for s in found] == [(s.name, s.windows.max()) for s in alone]


def test_silence_is_zero() -> None:
    assert heard("silent") == [0, 0, 0]


def test_one_clip_has_no_other() -> None:
    with pytest.raises(DataError, match="at least two clips"):
        heard("other", count=1)


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(DataError, match="'loud' is unknown; choose one of own, other, silent"):
        heard("loud")

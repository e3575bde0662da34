import numpy as np
import pytest

from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import with_sound


def sample(number: int) -> Sample:
    return Sample(
        str(number),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.full((1, 15600, 2), number / 10, np.float32),
        np.zeros((1, 4, 4), bool),
    )


def heard(sound: str, count: int = 3) -> list[float]:
    samples = list(with_sound([sample(n) for n in range(1, count + 1)], sound))  # type: ignore[arg-type]
    return [float(s.windows[0, 0, 0]) * 10 for s in samples]


def test_own_sound_is_left_alone() -> None:
    assert heard("own") == pytest.approx([1, 2, 3])


def test_every_clip_hears_another() -> None:
    assert sorted(heard("other")) == pytest.approx([1, 2, 3])
    samples = list(with_sound([sample(n) for n in (1, 2, 3)], "other"))
    assert sorted(s.name for s in samples) == ["1", "2", "3"]
    assert all(float(s.windows[0, 0, 0]) * 10 != pytest.approx(int(s.name)) for s in samples)


def test_silence_is_zero() -> None:
    assert heard("silent") == [0, 0, 0]


def test_one_clip_has_no_other() -> None:
    with pytest.raises(DataError, match="at least two clips"):
        heard("other", count=1)


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(DataError, match="'loud' is unknown; choose one of own, other, silent"):
        heard("loud")

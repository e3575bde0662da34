"""Pieces of a track at their times: gaps, overlaps, changes of rate, and samples that are no number."""

import numpy as np
import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.media.sound_parts import SoundParts

MONO = ("FC",)


def piece(num_samples: int, value: float = 0.5) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.full((num_samples, 1), value, np.float32)


def test_a_gap_is_silence_and_is_counted() -> None:
    parts = SoundParts("a", 10.0)
    parts.add(piece(16_000), 16_000, MONO, 0.0)
    parts.add(piece(16_000), 16_000, MONO, 2.0)
    sound = parts.finish()
    assert (len(sound), parts.num_gaps) == (48_000, 1)
    assert parts.gaps_s == pytest.approx(1.0)
    assert not sound[16_000:32_000].any()
    assert (sound[32_000:] == 0.5).all()


@pytest.mark.parametrize(("behind_damage", "length"), [(False, 32_000), (True, 32_320)])
def test_the_smallest_gap_is_real_behind_damage(behind_damage: bool, length: int) -> None:
    parts = SoundParts("a", 10.0)
    parts.add(piece(16_000), 16_000, MONO, 0.0)
    parts.add(piece(16_000), 16_000, MONO, 1.02, behind_damage=behind_damage)
    assert parts.num_gaps == 0
    assert len(parts.finish()) == length


def test_what_lies_before_time_0_and_what_overlaps_is_left_out() -> None:
    parts = SoundParts("a", 10.0)
    parts.add(piece(4_000, 0.1), 16_000, MONO, -0.5)
    parts.add(piece(16_000, 0.2), 16_000, MONO, -0.25)
    assert parts.read_s == pytest.approx(0.75)
    parts.add(piece(16_000, 0.4), 16_000, MONO, 0.25)
    sound = parts.finish()[:, 0]
    assert len(sound) == 20_000
    assert set(np.unique(sound)) == {np.float32(0.2), np.float32(0.4)}


def test_silence_is_not_collected_beyond_what_is_wanted() -> None:
    parts = SoundParts("a", 3.0)
    parts.add(piece(16_000), 16_000, MONO, 0.0)
    parts.add(piece(16_000), 16_000, MONO, 1e9)
    assert len(parts.finish()) == 4 * 16_000


def test_parts_of_many_rates_stay_in_step() -> None:
    parts = SoundParts("a", 100.0)
    for index in range(30):
        rate = (48_000, 44_100, 32_000)[index % 3]
        parts.add(piece(rate // 7 * 7 // 10), rate, ("FL",) if index % 2 else MONO, None)
    length_s = parts.read_s
    assert abs(len(parts.finish()) - round(length_s * 16_000)) <= 1


def test_no_number_is_silence_and_another_scale_is_refused() -> None:
    parts = SoundParts("a", 10.0)
    bad = piece(16_000)
    bad[100:110] = np.nan
    bad[200] = -np.inf
    parts.add(bad, 16_000, MONO, 0.0)
    parts.add(piece(100, 1e6), 16_000, MONO, None)
    assert parts.num_bad_samples == 11
    assert np.abs(parts.finish()).max() == 1
    parts = SoundParts("a.mkv", 10.0)
    with pytest.raises(BadInput, match=r"a\.mkv: sample 0 .* is 20000; float samples lie in \[-1, 1\]"):
        parts.add(piece(100, 20_000.0), 16_000, MONO, 0.0, strict_peak=True)

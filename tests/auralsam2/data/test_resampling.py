"""Sound to 16 kHz: by the filter of the released scripts, whose values the package gave, or as the client does."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from auralsam2.data import kaiser_best
from auralsam2.data.avsbench import read_clip
from auralsam2.data.resampling import Resampler, to_stereo_16_khz
from auralsam2.errors import DataError
from auralsam2_client.media.sound import to_stereo_16k

# What resampy 0.4.3 makes of `signal` with its filter kaiser_best: rows 0, 1, 400 and -1, left and right, by rate.
OF_THE_PACKAGE: dict[int, list[list[float]]] = {
    44100: [
        [0.01734788273949877, -0.003970303455667165],
        [0.1681739368687134, 0.3420263613749719],
        [-3.740194601387008e-15, 0.26465887399485893],
        [-0.1681692308683544, -0.245620625127013],
    ],
    48000: [
        [0.017630366825160185, -0.004775761664033883],
        [0.16820426958457052, 0.35708117106836423],
        [-7.033369783704425e-06, -0.029505597742312675],
        [-0.16821475447952877, 0.12492638168679754],
    ],
    22050: [
        [0.011592861321223362, -0.2526062573329625],
        [0.1679833293404181, 0.3955863624796426],
        [-1.8256126072782328e-06, -0.035225749985647405],
        [-0.34941226696648975, -0.42521670422881186],
    ],
    8000: [
        [0.007264124262284389, -0.4350257971537088],
        [0.14092486943680338, -0.08777783119768495],
        [1.681269230437904e-13, 0.07434969059947891],
        [-0.14092093359501787, -0.1650461491873653],
    ],
}


def signal(rate: int) -> npt.NDArray[np.float64]:
    """A twentieth of a second: a tone that is modulated, and noise up to the end of the band."""
    number = np.arange(rate // 20)
    time_s = number / rate
    tone = np.sin(2 * np.pi * 440 * time_s) * np.cos(3 * time_s**2)
    return np.stack([tone, (number * 7919) % 997 / 997 - 0.5], axis=1)


@pytest.mark.parametrize("rate", OF_THE_PACKAGE)
def test_the_released_scripts_filter_is_computed_here(rate: int) -> None:
    found = kaiser_best.resample(signal(rate), rate, 16000)
    assert len(found) == rate // 20 * 16000 // rate
    np.testing.assert_allclose(found[[0, 1, 400, -1]], OF_THE_PACKAGE[rate], rtol=0, atol=1e-14)


def test_the_released_resampler_doubles_mono_and_gives_float32() -> None:
    sound = signal(44100).astype(np.float32)
    found = to_stereo_16_khz(sound[:, :1], 44100, "resampy")
    assert found.dtype == np.float32
    assert found.shape == (800, 2)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 0], to_stereo_16_khz(sound, 44100, "resampy")[:, 0])


def test_sound_too_short_for_a_sample_gives_none() -> None:
    assert kaiser_best.resample(np.zeros((2, 2)), 48000, 16000).shape == (0, 2)


@pytest.mark.parametrize("resampler", ["resampy", "soxr"])
def test_sound_at_16_khz_keeps_its_samples(resampler: Resampler) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, size=(400, 2)).astype(np.float32)
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, resampler), sound)


def test_soxr_mixes_six_channels_as_the_client_does_and_the_release_drops_four() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, size=(400, 6)).astype(np.float32)
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, "soxr"), to_stereo_16k(sound, 16000, 6))
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, "resampy"), sound[:, :2])


def test_an_unknown_resampler_is_named() -> None:
    with pytest.raises(DataError, match="resampler 'sinc' is unknown; choose one of resampy, soxr"):
        to_stereo_16_khz(np.zeros((4, 2), np.float32), 16000, "sinc")  # type: ignore[arg-type]


def test_two_filters_keep_a_tone(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    folders.write_tone(clip / "audio.wav", 5, rate=44100)
    released, own = (read_clip(clip, resampler).windows[2, :, 0] for resampler in ("resampy", "soxr"))
    # Both filters pass 440 Hz untouched: they are one tone, to 1e-3, and yet two filters.
    np.testing.assert_allclose(released, own, atol=1e-3)
    assert not np.array_equal(released, own)

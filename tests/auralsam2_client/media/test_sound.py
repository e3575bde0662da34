"""Down-mix and resampling."""

import math

import numpy as np
import pytest
import soundfile

from auralsam2_client.contract import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.sound import (
    StereoStream,
    downmix_matrix,
    to_stereo_16k,
)
from auralsam2_client.media.sound_reader import read_sound_file

FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def tone(hz: float, rate: int, seconds: float, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def ramp(num_samples: int) -> np.ndarray:
    """A sound whose every value tells its own position."""
    return np.repeat((np.arange(num_samples) / 2**20)[:, None], 2, axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_level_and_length_at_every_rate(rate):
    sound = to_stereo_16k(tone(440.0, rate, 1.5), rate, 1)
    assert sound.dtype == np.float32
    assert abs(len(sound) - 24_000) <= 1
    inside = sound[2_000:-2_000]
    expected = tone(440.0, SAMPLE_RATE, 1.5, 2)[2_000 : 2_000 + len(inside)]
    np.testing.assert_allclose(inside, expected, atol=2e-3)


def test_mono_is_doubled_and_stereo_untouched():
    mono = tone(300.0, SAMPLE_RATE, 0.2)
    np.testing.assert_array_equal(to_stereo_16k(mono, SAMPLE_RATE, 1), np.repeat(mono, 2, axis=1))
    stereo = np.concatenate([mono, -0.5 * mono], axis=1)
    np.testing.assert_array_equal(to_stereo_16k(stereo, SAMPLE_RATE, ("FL", "FR")), stereo)


def test_five_one_follows_itu_without_lfe():
    matrix = downmix_matrix(FIVE_ONE)
    total = 1 + 2 / math.sqrt(2)
    half_power = 1 / math.sqrt(2) / total
    expected = [[1 / total, 0], [0, 1 / total], [half_power] * 2, [0, 0], [half_power, 0], [0, half_power]]
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)
    np.testing.assert_array_equal(matrix, downmix_matrix(6))


@pytest.mark.parametrize("channels", range(1, 9))
def test_full_scale_on_every_channel_cannot_clip(channels):
    assert downmix_matrix(channels).sum(axis=0).max() == pytest.approx(1.0)


def test_pieces_give_the_same_as_the_whole():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (44_100, 2)).astype(np.float32)
    stream = StereoStream(44_100, 2)
    for piece in np.array_split(samples, 7):
        stream.add(piece)
    np.testing.assert_array_equal(stream.finish(), to_stereo_16k(samples, 44_100, 2))


def test_overshoot_is_clipped_to_the_contract():
    assert np.abs(to_stereo_16k(3 * tone(100.0, SAMPLE_RATE, 0.1), SAMPLE_RATE, 1)).max() == 1.0


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (20_000.0, "full scale")])
def test_a_bad_sample_is_named(value, word):
    samples = tone(100.0, SAMPLE_RATE, 1.0, 2)
    samples[12_345, 1] = value
    with pytest.raises(BadInput, match=rf"sample 12345 \(0.772 s\), channel 1.*{word}"):
        to_stereo_16k(samples, SAMPLE_RATE, 2)


@pytest.mark.parametrize(
    ("rate", "layout", "words"),
    [
        (100, 2, "100 Hz"),
        (16_000, 9, "9 channels"),
        (16_000, ("AMBI0",), "AMBI0"),
        (16_000, ("LFE",), "other than LFE"),
    ],
)
def test_rates_and_layouts_out_of_range(rate, layout, words):
    with pytest.raises(BadInput, match=words):
        StereoStream(rate, layout)


def test_empty_or_misshapen_samples():
    with pytest.raises(BadInput, match=r"\[0, 2\]"):
        to_stereo_16k(np.zeros((0, 2), np.float32), SAMPLE_RATE, 2)
    with pytest.raises(BadInput, match=r"\[5, 2\]"):
        to_stereo_16k(np.zeros((5, 2), np.float32), SAMPLE_RATE, 6)


def test_sound_file_is_read_up_to_a_time(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440.0, 48_000, 3.0, 2), 48_000, subtype="FLOAT")
    assert abs(len(read_sound_file(path, until_s=2.0)) - 32_000) <= 1
    assert abs(len(read_sound_file(path, until_s=99.0)) - 48_000) <= 1


def test_sound_files_that_are_none(tmp_path):
    with pytest.raises(BadInput, match=r"does not exist.*--silent"):
        read_sound_file(tmp_path / "missing.wav", 1.0)
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(BadInput, match=r"text\.wav cannot be read as sound"):
        read_sound_file(tmp_path / "text.wav", 1.0)
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2), np.float32), 16_000)
    with pytest.raises(BadInput, match=r"0 samples.*--silent"):
        read_sound_file(tmp_path / "empty.wav", 1.0)


def test_the_geometry_is_that_of_avsbench():
    assert (SAMPLE_RATE, WINDOW_SAMPLES, HOP_SAMPLES) == (16_000, 15_600, 15_360)

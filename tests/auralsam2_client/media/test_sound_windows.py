"""The windows that each frame hears, for the client and for data sets."""

import math
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.sound_windows import clip_windows, num_windows, windows


def ramp(num_samples: int) -> np.ndarray:
    """A sound whose every value tells its own position."""
    return np.repeat((np.arange(num_samples) / 2**20)[:, None], 2, axis=1).astype(np.float32)


@pytest.mark.parametrize("num_samples", [WINDOW_SAMPLES, WINDOW_SAMPLES + HOP_SAMPLES - 1, 80_000, 160_000])
def test_a_data_sets_windows_are_those_that_the_client_sends(num_samples: int) -> None:
    sound = ramp(num_samples)
    np.testing.assert_array_equal(clip_windows(sound, 5), windows(sound, 5).samples)


def test_a_data_sets_short_sound_is_filled_up_with_silence() -> None:
    heard = clip_windows(ramp(1000) + 1, 2)
    assert heard.shape == (2, WINDOW_SAMPLES, 2)
    np.testing.assert_array_equal(heard[0], heard[1])
    assert (heard[:, :1000] >= 1).all()
    assert not heard[:, 1000:].any()


@pytest.mark.parametrize(
    ("num_samples", "count"),
    [(0, 1), (1, 1), (WINDOW_SAMPLES, 1), (WINDOW_SAMPLES + HOP_SAMPLES - 1, 1), (WINDOW_SAMPLES + HOP_SAMPLES, 2)],
)
def test_whole_windows_are_counted(num_samples: int, count: int) -> None:
    assert num_windows(ramp(num_samples)) == count


def test_windows_at_one_a_second_have_no_overlap() -> None:
    sound = ramp(5 * SAMPLE_RATE)
    heard = windows(sound, 5)
    assert heard.samples.shape == (5, WINDOW_SAMPLES, 2)
    assert heard.num_repeated == 0
    for i in range(5):
        np.testing.assert_array_equal(heard.samples[i], sound[HOP_SAMPLES * i : HOP_SAMPLES * i + WINDOW_SAMPLES])


def test_a_later_clip_starts_at_its_own_second() -> None:
    sound = ramp(10 * SAMPLE_RATE)
    heard = windows(sound, 5, start_s=5.0)
    assert heard.samples[0, 0, 0] == sound[5 * SAMPLE_RATE, 0]
    assert heard.samples[4, 0, 0] == sound[5 * SAMPLE_RATE + 4 * HOP_SAMPLES, 0]


@pytest.mark.parametrize(
    ("num_samples", "repeated"), [(HOP_SAMPLES * 2 + WINDOW_SAMPLES, 2), (HOP_SAMPLES * 2 + WINDOW_SAMPLES - 1, 3)]
)
def test_missing_windows_repeat_the_last_complete_one(num_samples: int, repeated: int) -> None:
    heard = windows(ramp(num_samples), 5)
    assert heard.num_repeated == repeated
    last = 5 - repeated - 1
    for i in range(last, 5):
        np.testing.assert_array_equal(heard.samples[i], heard.samples[last])


def test_a_clip_after_the_end_of_the_sound_hears_its_end() -> None:
    sound = ramp(2 * SAMPLE_RATE)
    heard = windows(sound, 3, start_s=10.0)
    assert heard.num_repeated == 3
    np.testing.assert_array_equal(heard.samples[2], sound[-WINDOW_SAMPLES:])


def test_windows_at_other_rates_are_centred_and_stay_inside() -> None:
    sound = ramp(4 * SAMPLE_RATE)
    heard = windows(sound, 10, fps=2.0)
    starts = np.rint(heard.samples[:, 0, 0].astype(np.float64) * 2**20).astype(int)
    centred = [8_000 * i - WINDOW_SAMPLES // 2 for i in range(10)]
    assert starts.tolist() == [min(max(start, 0), len(sound) - WINDOW_SAMPLES) for start in centred]
    assert heard.num_repeated == 2  # frames at 4.0 and 4.5 s


def test_silence_is_zeros() -> None:
    heard = windows(None, 3)
    assert heard.samples.shape == (3, WINDOW_SAMPLES, 2)
    assert not heard.samples.any()
    assert heard.num_repeated == 0


def test_sound_shorter_than_one_window_names_both_lengths() -> None:
    with pytest.raises(BadInput, match=r"15599 samples \(0.975 s\).*15600 \(0.975 s\).*--silent"):
        windows(np.zeros((WINDOW_SAMPLES - 1, 2), np.float32), 5)
    assert windows(np.zeros((WINDOW_SAMPLES, 2), np.float32), 5).num_repeated == 4


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_number_that_is_none_is_named(value: float) -> None:
    sound = np.zeros((5 * SAMPLE_RATE, 2), np.float32)
    sound[20_000, 1] = value
    with pytest.raises(BadInput, match=r"sample 20000 \(1.250 s\), channel 1"):
        windows(sound, 5)


@pytest.mark.parametrize("bad", [{"num_frames": 0}, {"fps": 0.0}, {"fps": math.nan}, {"start_s": -1.0}])
def test_windows_arguments_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="must be at least 1, above 0 and at least 0"):
        windows(np.zeros((SAMPLE_RATE, 2), np.float32), **{"num_frames": 5, **bad})


def test_windows_need_two_channels() -> None:
    with pytest.raises(BadInput, match=r"\[16000, 1\]"):
        windows(np.zeros((SAMPLE_RATE, 1), np.float32), 1)


def test_what_passes_full_scale_is_saturated_and_another_scale_refused() -> None:
    sound = np.zeros((SAMPLE_RATE, 2), np.float32)
    sound[100:103, 0] = (1.3, -2.0, 0.5)
    np.testing.assert_array_equal(windows(sound, 1).samples[0, 100:103, 0], np.array([1, -1, 0.5], np.float32))
    assert sound[100, 0] == np.float32(1.3)
    with pytest.raises(BadInput, match=r"a sample of 20000; full scale is \[-1, 1\].* by 32768"):
        windows(sound * 10_000, 1)

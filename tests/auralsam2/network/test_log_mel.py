"""The log-mel front end against the published examples and against a Fourier transform written independently."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auralsam2.network import log_mel
from auralsam2.network.log_mel import HOP_SAMPLES, WINDOW_SAMPLES, LogMel


@pytest.fixture(scope="module")
def published(parity_folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Stereo PCM [80000, 2] in [-1, 1] and its examples [5, 2, 96, 64]."""
    with np.load(parity_folder / "log_mel_16k_stereo.npz") as file:
        assert int(file["sample_rate"]) == log_mel.SAMPLE_RATE
        return file["pcm"] / 32768.0, file["examples"]


def windows(pcm: NDArray[Any]) -> NDArray[Any]:
    return np.stack([pcm[start : start + 15600] for start in range(0, len(pcm) - 15600 + 1, 15360)])


def by_fft(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """One channel's [15600] samples -> [96, 64] float64, band by band and hop by hop."""

    def mel(hz: float) -> float:
        return 2595 * float(np.log10(1 + hz / 700))

    hann = np.sin(np.pi * np.arange(400) / 400) ** 2
    spectra = np.array([np.abs(np.fft.rfft(wave[160 * hop : 160 * hop + 400] * hann, 512)) for hop in range(96)])
    edges = np.linspace(mel(125), mel(7500), 66)
    heights = np.array([mel(hz) for hz in np.arange(257) * 16000 / 512])
    filters = np.zeros((257, 64))
    for band in range(64):
        for k in range(1, 257):
            low, peak, high = edges[band : band + 3]
            if low < heights[k] < high:
                rising, falling = (heights[k] - low) / (peak - low), (high - heights[k]) / (high - peak)
                filters[k, band] = min(rising, falling)
    return np.asarray(np.log(spectra @ filters + 0.01))


def test_the_published_examples(published: tuple[NDArray[Any], NDArray[Any]]) -> None:
    pcm, examples = published
    ours = LogMel()(torch.from_numpy(windows(pcm).astype(np.float32))).numpy()
    assert ours.shape == examples.shape
    assert np.abs(ours - examples).max() <= 1e-4


def test_an_independent_fourier_transform(published: tuple[NDArray[Any], NDArray[Any]]) -> None:
    window = windows(published[0])[2]
    truth = np.stack([by_fft(window[:, channel]) for channel in range(2)])
    ours = LogMel()(torch.from_numpy(window[None].astype(np.float32)))[0].numpy()
    assert np.abs(ours - truth).max() <= 1e-4


def test_left_and_right_stay_apart() -> None:
    noise = 0.1 * torch.randn(2, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(0))
    sound = torch.stack([noise, torch.zeros_like(noise)], dim=2)
    examples = LogMel()(sound)
    torch.testing.assert_close(examples[:, 1], torch.full_like(examples[:, 1], float(np.log(0.01))))
    assert examples[:, 0].std() > 0.1
    torch.testing.assert_close(LogMel()(sound.flip(2)), examples.flip(1))


def test_a_window_holds_96_hops_and_begins_where_the_last_one_s_hops_end() -> None:
    assert HOP_SAMPLES == 96 * 160
    assert WINDOW_SAMPLES == 95 * 160 + 400
    # Five seconds hold five windows; the last begins at 61440 and ends before the sound does.
    assert [15360 * i + 15600 <= 80000 for i in range(6)] == [True] * 5 + [False]


def symmetric_hann(monkeypatch: pytest.MonkeyPatch) -> None:
    dft = log_mel.windowed_dft
    n = torch.arange(400, dtype=torch.float64)
    periodic, symmetric = (0.5 - 0.5 * torch.cos(2 * np.pi * n / length) for length in (400, 399))
    ratio = torch.where(periodic > 0, symmetric / periodic, torch.zeros(()).double())
    monkeypatch.setattr(log_mel, "windowed_dft", lambda: dft() * ratio)


def another_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_mel, "LOG_OFFSET", 0.001)


def another_mel_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slaney's: linear up to 1000 Hz."""

    def mel(hz: torch.Tensor) -> torch.Tensor:
        return torch.where(hz < 1000, hz * 3 / 200, 15 + 27 * torch.log(hz.clamp(min=1) / 1000) / np.log(6.4))

    monkeypatch.setattr(log_mel, "_mel", mel)


def another_highest_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_mel, "HIGHEST_HZ", 8000.0)


def power_in_place_of_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "sqrt", lambda x: x)


@pytest.mark.parametrize(
    "mutate", [symmetric_hann, another_offset, another_mel_scale, another_highest_band, power_in_place_of_magnitude]
)
def test_the_published_examples_notice(
    published: tuple[NDArray[Any], NDArray[Any]],
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
) -> None:
    pcm, examples = published
    sound = torch.from_numpy(windows(pcm).astype(np.float32))
    mutate(monkeypatch)
    assert np.abs(LogMel()(sound).numpy() - examples).max() > 10 * 1e-4

"""Sound to 16 kHz: which package is asked, with what, and what is said where it is missing."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from auralsam2.data.avsbench import read_clip
from auralsam2.data.resampling import Resampler, to_stereo_16_khz
from auralsam2.errors import DataError
from auralsam2_client.media.sound import to_stereo_16k

Calls = list[dict[str, Any]]


@pytest.fixture
def resampy_calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A stand-in for the package, which notes what it is asked and answers with ones."""
    calls: Calls = []

    def resample(
        x: npt.NDArray[np.float64], sr_orig: int, sr_new: int, axis: int = -1, filter: str = "kaiser_best"
    ) -> npt.NDArray[np.float64]:
        calls.append({"dtype": x.dtype, "sr_orig": sr_orig, "sr_new": sr_new, "axis": axis, "filter": filter})
        return np.ones((round(len(x) * sr_new / sr_orig), *x.shape[1:]))

    module = ModuleType("resampy")
    module.resample = resample  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resampy", module)
    return calls


@pytest.fixture
def without_resampy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resampy", None)


def test_the_released_scripts_resampler_is_asked(resampy_calls: Calls) -> None:
    found = to_stereo_16_khz(np.zeros((44100, 2), np.float32), 44100, "resampy")
    assert resampy_calls == [
        {"dtype": np.float64, "sr_orig": 44100, "sr_new": 16000, "axis": 0, "filter": "kaiser_best"}
    ]
    assert found.dtype == np.float32
    assert found.shape == (16000, 2)
    assert (found == 1).all()


def test_soxr_asks_nobody(resampy_calls: Calls) -> None:
    found = to_stereo_16_khz(np.zeros((44100, 2), np.float32), 44100, "soxr")
    assert found.shape == (16000, 2)
    assert not found.any()
    assert resampy_calls == []


@pytest.mark.usefixtures("without_resampy")
@pytest.mark.parametrize("resampler", ["resampy", "soxr"])
def test_sound_at_16_khz_needs_no_package(resampler: Resampler) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, size=(400, 2)).astype(np.float32)
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, resampler), sound)


def test_soxr_mixes_six_channels_as_the_client_does_and_the_release_drops_four() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, size=(400, 6)).astype(np.float32)
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, "soxr"), to_stereo_16k(sound, 16000, 6))
    np.testing.assert_array_equal(to_stereo_16_khz(sound, 16000, "resampy"), sound[:, :2])


@pytest.mark.usefixtures("without_resampy")
def test_a_missing_package_is_named_with_the_file_and_the_way_out(folders: Any, tmp_path: Path) -> None:
    clip = folders.write_clip(tmp_path / "a")
    assert read_clip(clip, "resampy").windows.shape == (5, 15600, 2)
    folders.write_tone(clip / "audio.wav", 5, rate=44100)
    words = (
        r"a.audio\.wav: sound at 44100 Hz; as released.*'resampy'.*pip install resampy==0.*--protocol project.*train"
    )
    with pytest.raises(DataError, match=words) as raised:
        read_clip(clip, "resampy")
    assert "\n" not in str(raised.value)
    assert read_clip(clip).windows.shape == (5, 15600, 2)


def test_a_clip_s_sound_goes_through_it(folders: Any, tmp_path: Path, resampy_calls: Calls) -> None:
    clip = folders.write_clip(tmp_path / "a")
    folders.write_tone(clip / "audio.wav", 5, rate=48000)
    assert (read_clip(clip, "resampy").windows == 1).all()
    assert [call["sr_orig"] for call in resampy_calls] == [48000]


def test_an_unknown_resampler_is_named() -> None:
    with pytest.raises(DataError, match="resampler 'sinc' is unknown; choose one of resampy, soxr"):
        to_stereo_16_khz(np.zeros((4, 2), np.float32), 16000, "sinc")  # type: ignore[arg-type]


def test_the_package_itself_keeps_a_tone(folders: Any, tmp_path: Path) -> None:
    pytest.importorskip("resampy", reason="optional: pip install resampy==0.4.3; the stand-in above proves the call")
    clip = folders.write_clip(tmp_path / "a")
    folders.write_tone(clip / "audio.wav", 5, rate=44100)
    released, own = (read_clip(clip, resampler).windows[2, :, 0] for resampler in ("resampy", "soxr"))
    # Both filters pass 440 Hz untouched: they are one tone, to 1e-3, and yet two filters.
    np.testing.assert_allclose(released, own, atol=1e-3)
    assert not np.array_equal(released, own)

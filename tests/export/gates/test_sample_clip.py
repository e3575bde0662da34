import numpy as np
import pytest

from auralsam2.network.log_mel import WINDOW_SAMPLES
from export.gates.sample_clip import sample_audio, sample_frames


@pytest.mark.parametrize(("num_frames", "size"), [(1, 224), (3, 256)])
def test_frames_are_rgb_bytes_that_differ_everywhere(num_frames: int, size: int) -> None:
    frames = sample_frames(num_frames, size)
    assert frames.dtype == np.uint8
    assert frames.shape == (num_frames, size, size, 3)
    assert frames.std(axis=(1, 2)).min() > 10, "a channel is nearly constant"
    assert frames.min() < 60
    assert frames.max() > 195
    # Of three colours, no two channels are the same picture.
    assert (frames[..., 0] != frames[..., 1]).mean() > 0.5


def test_frames_move() -> None:
    frames = sample_frames(3, 224)
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


def test_audio_is_a_stereo_window_a_frame() -> None:
    audio = sample_audio(3)
    assert audio.dtype == np.float32
    assert audio.shape == (3, WINDOW_SAMPLES, 2)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1
    assert audio.std(axis=1).min() > 0.005, "a channel is nearly silent"
    assert (audio[..., 0] != audio[..., 1]).any()
    assert (audio[0] != audio[1]).any()


def test_the_clip_is_the_same_every_time_and_another_for_another_seed() -> None:
    np.testing.assert_array_equal(sample_frames(2, 224), sample_frames(2, 224))
    np.testing.assert_array_equal(sample_audio(2), sample_audio(2))
    assert (sample_frames(2, 224, seed=1) != sample_frames(2, 224)).any()
    assert (sample_audio(2, seed=1) != sample_audio(2)).any()

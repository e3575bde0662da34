"""Six timbres that a spectrum can tell apart, whatever the pitch."""

import numpy as np
import pytest
import torch

from auralsam2.data.world.shapes import SHAPES, Shape
from auralsam2.data.world.timbres import SEEN_PITCHES, UNSEEN_PITCHES, draw_pitch, note
from auralsam2.network.log_mel import SAMPLE_RATE, LogMel
from auralsam2_client.media.sound_windows import clip_windows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pitch", [0.64, 1.0, 1.55])
def test_a_note_is_of_unit_loudness_and_neither_clicks_nor_hums_at_zero(shape: Shape, pitch: float) -> None:
    wave = note(shape, pitch, 0.8, np.random.default_rng(0))
    assert wave.dtype == np.float32
    assert wave.shape == (round(0.8 * SAMPLE_RATE),)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1, abs=1e-3)
    assert np.abs(wave[[0, -1]]).max() < 0.02
    assert abs(float(wave.mean())) < 0.02


def test_a_nearest_neighbour_on_mel_spectra_knows_the_class() -> None:
    """So a network can: mean and spread over time of each mel band, ten notes to compare with, ten to guess."""
    log_mel = LogMel()
    rng = np.random.default_rng(1)

    def features(shape: Shape) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        wave = 0.1 * note(shape, draw_pitch(rng, SEEN_PITCHES), 0.8, rng)
        mel = log_mel(torch.from_numpy(clip_windows(np.stack([wave, wave], 1), 1)))[0, 0].numpy()
        return np.concatenate([mel.mean(0), mel.std(0)])

    known = {shape: [features(shape) for _ in range(10)] for shape in SHAPES}
    right = 0
    for shape in SHAPES:
        for _ in range(10):
            guess = features(shape)
            nearest = min(SHAPES, key=lambda s: min(float(np.linalg.norm(k - guess)) for k in known[s]))
            right += nearest == shape
    assert right >= 57


def test_pitches_stay_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    for ranges in (SEEN_PITCHES, UNSEEN_PITCHES):
        drawn = np.array([draw_pitch(rng, ranges) for _ in range(300)])
        for low, high in ranges:
            assert ((drawn >= low) & (drawn <= high)).any()
        assert all(any(low <= pitch <= high for low, high in ranges) for pitch in drawn)

"""Learning prompts: what may change, that it learns, and that a killed run goes on as if nothing had happened."""

from pathlib import Path

import numpy as np
import pytest
import torch

from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.log_mel import LogMel
from auralsam2.training.after import prompt_tuning
from auralsam2.training.after.lesson import Settings
from auralsam2.training.after.prompt_examples import Features, clip_features
from auralsam2.training.after.prompt_tuning import Tuner

SETTINGS = Settings(clips=1, steps=20, learning_rate=1e-3)


@pytest.fixture(scope="module")
def features() -> list[Features]:
    with torch.no_grad():
        return clip_features(load_aural_sam2("compact")[0], LogMel(), 0, seed=0)


@pytest.fixture
def tuner(features: list[Features], monkeypatch: pytest.MonkeyPatch) -> Tuner:
    monkeypatch.setattr(prompt_tuning, "PROMPT_BATCH", 4)
    monkeypatch.setattr(prompt_tuning, "SOUND_BATCH", 2)
    return Tuner(load_aural_sam2("compact")[0], features, SETTINGS)


def test_on_sound_the_decoder_starts_as_it_was(tuner: Tuner) -> None:
    for value in tuner._sound_losses(np.random.default_rng(0)).values():
        assert value.detach() < 1e-5


def test_what_features_were_made_with_stays_and_the_rest_learns(tuner: Tuner) -> None:
    def loss() -> float:
        """Of the same prompts each time."""
        with torch.no_grad():
            drawn = [tuner._prompt_losses(np.random.default_rng(100 + number)) for number in range(4)]
        return float(np.mean([losses["mask"] for losses in drawn]))

    # The shipped network knows prompts; let it forget what labels mean.
    for embedding in tuner.model.v_model.sam_prompt_encoder.point_embeddings:
        torch.nn.init.normal_(embedding.weight, generator=torch.Generator().manual_seed(3))
    before = {key: value.clone() for key, value in tuner.model.state_dict().items()}
    ignorant = loss()
    with torch.enable_grad():
        for _ in range(12):
            tuner.advance()
    assert loss() < ignorant
    changed = {key for key, value in tuner.model.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.startswith(("v_model.sam_mask_decoder.", "v_model.sam_prompt_encoder.")) for key in changed)
    kept = ("conv_s0", "conv_s1", "no_mask_embed", "pe_layer")
    assert not [key for key in changed if any(name in key for name in kept)]
    assert "v_model.sam_prompt_encoder.point_embeddings.1.weight" in changed
    assert "v_model.sam_prompt_encoder.mask_downscaling.0.weight" in changed


def test_a_resumed_run_is_the_uninterrupted_one(tuner: Tuner, features: list[Features], tmp_path: Path) -> None:
    with torch.enable_grad():
        tuner.advance()
        torch.save(tuner.state(), tmp_path / "state")
        after = tuner.advance()
        other = Tuner(load_aural_sam2("compact")[0], features, SETTINGS)
        other.restore(torch.load(tmp_path / "state", weights_only=True))
        assert other.advance() == after

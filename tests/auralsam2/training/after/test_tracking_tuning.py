"""Learning to carry what is marked: what may change, that it learns, that sound is repeated as it was."""

import numpy as np
import pytest
import torch

from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.log_mel import LogMel
from auralsam2.training.after import tracking_tuning
from auralsam2.training.after.lesson import Settings
from auralsam2.training.after.tracking_tuning import Clip, Tuner, read_clip

SETTINGS = Settings(clips=1, steps=20, learning_rate=1e-3)
LEARNS = (
    *("sam_mask_decoder.", "sam_prompt_encoder.", "memory_attention.", "memory_encoder.", "obj_ptr_proj."),
    *("maskmem_tpos_enc", "no_obj_ptr"),
)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    with torch.no_grad():
        return [read_clip(load_aural_sam2("compact")[0], LogMel(), 0, seed=0)]


@pytest.fixture
def tuner(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> Tuner:
    monkeypatch.setattr(tracking_tuning, "TRACKED_CLIPS", 1)
    monkeypatch.setattr(tracking_tuning, "PROMPT_BATCH", 2)
    return Tuner(load_aural_sam2("compact")[0], clips, SETTINGS)


def test_on_sound_the_network_starts_as_it_was(tuner: Tuner) -> None:
    with torch.no_grad():
        losses = tuner.sound_losses(np.random.default_rng(0))
    # What it said is kept in float16.
    assert losses["sound"] < 1e-3
    assert losses["sound_other"] < 1e-2


def test_memory_learns_and_what_features_were_made_with_stays(tuner: Tuner) -> None:
    sam = tuner.model.v_model
    # The shipped network carries things; let it forget what it remembers by.
    for parameter in sam.memory_encoder.out_proj.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))

    def loss() -> float:
        """Of the same things each time."""
        with torch.no_grad():
            drawn = [tuner.tracking_losses(np.random.default_rng(100 + number)) for number in range(3)]
        return float(np.mean([losses["mask"] for losses in drawn]))

    before = {key: value.clone() for key, value in tuner.model.state_dict().items()}
    ignorant = loss()
    with torch.enable_grad():
        for _ in range(6):
            tuner.advance()
    assert loss() < ignorant
    changed = {key for key, value in tuner.model.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.removeprefix("v_model.").startswith(LEARNS) for key in changed)
    assert not [key for key in changed if "conv_s0" in key or "conv_s1" in key]
    assert "v_model.memory_encoder.out_proj.weight" in changed


def test_each_frame_stands_by_itself_for_single_prompts(clips: list[Clip]) -> None:
    (clip,) = clips
    frames = clip.frames()
    assert len(frames) == len(clip.owners) == 5
    for number, frame in enumerate(frames):
        assert torch.equal(frame.embedding, clip.image.embedding[number])
        assert torch.equal(frame.high_res_s4, clip.image.high_res_s4[number])
        assert np.array_equal(frame.owners, clip.owners[number])

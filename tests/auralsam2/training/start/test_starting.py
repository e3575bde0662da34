"""Where a run starts from: weights that a preset cannot do without are asked for, and those that do not fit refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.errors import TrainingError
from auralsam2.model.parity_weights import parity_state
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.trainer import train
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start import starting
from auralsam2.training.start.starting import Weights, pretrains

TINY = TrainSettings(image_size=224, num_frames=2, steps=3, clips_per_step=1, workers=1, pretraining_image_steps=0)


@pytest.fixture(autouse=True)
def _two_clips_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)


def test_only_a_network_without_weights_is_pretrained() -> None:
    assert pretrains(TINY, Weights())
    assert not pretrains(TINY, Weights(checkpoint="weights.pth"))
    assert not pretrains(replace(TINY, preset="hiera_tiny"), Weights())
    assert not pretrains(replace(TINY, pretraining_sound_steps=0), Weights())


@pytest.mark.parametrize("name", ["hiera_tiny", "hiera_base_plus"])
def test_a_hiera_preset_asks_for_the_weights_that_stay_frozen(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingError, match="frozen SAM2; give SAM2's weights with --sam2-checkpoint"):
        train(replace(TINY, preset=name), tmp_path)


def test_weights_that_read_text_are_refused_by_their_form(tmp_path: Path) -> None:
    path = tmp_path / "refavs.pth"
    torch.save(parity_state(AuralSAM2.from_preset("compact", 224, text=True), 51), path)
    with pytest.raises(TrainingError, match=r"refavs\.pth is a checkpoint of the Ref-AVS form.*auralsam2_avs_"):
        Learner(TINY, Weights(checkpoint=str(path)))


def test_a_vggish_is_asked_for_too(tmp_path: Path) -> None:
    model = AuralSAM2.from_preset("hiera_tiny", 224)
    path = tmp_path / "sam2.pt"
    state = parity_state(model, 51)
    torch.save({k.removeprefix("v_model."): v for k, v in state.items() if k.startswith("v_model.")}, path)
    with pytest.raises(TrainingError, match="frozen VGGish; give its weights with --vggish-checkpoint"):
        train(replace(TINY, preset="hiera_tiny"), tmp_path / "run", Weights(sam2_checkpoint=str(path)))


def test_without_audio_the_network_starts_alike_and_hears_nothing() -> None:
    deaf, hearing = (Learner(replace(TINY, audio=audio), Weights()) for audio in (False, True))
    for name, value in hearing.model.state_dict().items():
        assert torch.equal(value, deaf.model.state_dict()[name]), name
    assert not deaf.source(0, 5).windows.any()
    assert hearing.source(0, 5).windows.any()

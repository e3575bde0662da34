"""Adapters are trained by the same recipe, on the SAM2 and VGGish that `compact` learned before, which stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import TrainingError
from auralsam2.model.loading import load_aural_sam2
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.trainer import train
from auralsam2.training.run_folder import HALF_WEIGHTS
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights, pretrains

GAVS = TrainSettings(method="gavs", image_size=224, num_frames=2, steps=2, clips_per_step=1, workers=1)
PARTS = ("v_model.", "aural_fuser.vgg.")


def test_it_starts_from_what_is_shipped_and_pretrains_nothing() -> None:
    learner = Learner(GAVS, Weights())
    before, found = load_aural_sam2("compact", 224)[0].state_dict(), learner.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in before.items() if name.startswith(PARTS))
    assert not pretrains(GAVS, Weights())
    learning = {name for name, parameter in learner.model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name in found if name.startswith(("aural_fuser.encoder.", "aural_fuser.decoder."))}


def test_a_run_changes_the_adapters_alone_and_ships_no_sam2(tmp_path: Path) -> None:
    weights = train(GAVS, tmp_path)
    found, before = load_file(weights), Learner(GAVS, Weights()).model.state_dict()
    changed = {name for name, value in found.items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(PARTS) for name in changed)
    assert checkpoints.method_of(found) == "gavs"
    small = load_file(tmp_path / HALF_WEIGHTS)
    assert {name for name in found if not name.startswith("v_model.")} == set(small)
    # What was trained is what the next run starts from.
    again, name = Learner(replace(GAVS, steps=3), Weights(checkpoint=str(weights))), "aural_fuser.decoder.0.up.weight"
    assert torch.equal(again.model.state_dict()[name], found[name])


def test_weights_of_another_method_and_an_unknown_method_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'avs' is unknown; choose one of auralsam2, gavs, sama_avs"):
        TrainSettings(method="avs")
    torch.save(AuralSAM2.from_preset("compact", 224).state_dict(), tmp_path / "own.pth")
    with pytest.raises(TrainingError, match=r"own\.pth holds weights of auralsam2; give --method auralsam2"):
        Learner(GAVS, Weights(checkpoint=str(tmp_path / "own.pth")))
    with pytest.raises(TrainingError, match=r"trains gavs on a frozen SAM2; give .* --sam2-checkpoint"):
        Learner(replace(GAVS, preset="hiera_tiny"), Weights())

"""Whose weights a file holds: told by its tensors, whatever its name."""

import pytest
import torch
from torch import Tensor

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError
from auralsam2.model.adapted_sam2 import AdaptedSAM2


def test_auralsam2_is_told_from_adapters() -> None:
    assert checkpoints.method_of(AuralSAM2.from_preset("compact").state_dict()) == "auralsam2"


@pytest.mark.parametrize("method", ["gavs", "sama_avs"])
@pytest.mark.parametrize("part", ["whole", "alone", "wrapped"])
def test_adapters_are_told_by_their_width_in_every_form_of_a_file(method: str, part: str) -> None:
    model = AdaptedSAM2.from_preset("compact", method)
    state: dict[str, Tensor] = {
        "whole": model.state_dict(),
        "alone": model.aural_fuser.state_dict(),
        "wrapped": {f"module.{name}": value for name, value in model.state_dict().items()},
    }[part]
    assert checkpoints.method_of(state) == method
    lacks = checkpoints.lacks(state)
    assert (lacks is None) == (part != "alone")
    assert lacks is None or lacks.startswith("holds adapters without the SAM2 that they lie on; give")


def test_a_width_of_no_method_is_refused_with_those_that_are_known() -> None:
    state = {"aural_fuser.decoder.0.up.weight": torch.zeros(128, 64)}
    with pytest.raises(CheckpointError, match=r"width 64; known are 128 \(gavs\), 512 \(sama_avs\)"):
        checkpoints.method_of(state)


def test_adapters_of_another_method_are_not_loaded() -> None:
    model = AdaptedSAM2.from_preset("compact", "gavs")
    with pytest.raises(CheckpointError, match=r"does not fit.*misshapen"):
        model.load_released(AdaptedSAM2.from_preset("compact", "sama_avs").state_dict())

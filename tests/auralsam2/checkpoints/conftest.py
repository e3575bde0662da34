"""One network and its weights for all tests of checkpoints. Each test finds the network empty."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from auralsam2 import AuralSAM2
from tests.auralsam2.checkpoints.forms import State


@pytest.fixture(scope="package")
def filled(well_scaled: Callable[[nn.Module, int], nn.Module]) -> State:
    """The weights that every file below holds in one form or another."""
    return well_scaled(AuralSAM2.from_preset("compact"), 0).state_dict()


@pytest.fixture(scope="package")
def model() -> AuralSAM2:
    return AuralSAM2.from_preset("compact")


@pytest.fixture(autouse=True)
def _emptied(model: AuralSAM2) -> None:
    for value in model.state_dict().values():
        value.zero_()


@pytest.fixture(scope="package")
def ref_avs(well_scaled: Callable[[nn.Module, int], nn.Module]) -> State:
    """As the release's Ref-AVS files have it: linear contrastive heads, the text projection, the text model."""
    network = AuralSAM2.from_preset("compact", text=True)
    fuser = network.aural_fuser
    for name in ("train_proj_v1", "train_proj_a1"):
        head = getattr(fuser, name)
        convolution = head.proj[0]
        inner, width = convolution.out_channels, convolution.in_channels
        head.proj = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.LayerNorm(inner), nn.Linear(inner, inner))
    return well_scaled(network, 3).state_dict() | {"t_model.pooler.dense.weight": torch.ones(4, 4)}

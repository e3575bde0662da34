"""Floors from counted bytes and FLOP; the README shows them as they are computed."""

from pathlib import Path

import pytest
import torch

from kernels.counting import count_operators
from kernels.fusion.pytorch import fuse
from kernels.fusion.reference import FUSION_FORMS, FusionForm
from kernels.fusion.weights import FusionWeights
from kernels.launching.cards import CARDS, card_of
from kernels.launching.occupancy import ARCHITECTURES
from kernels.roofline import Work, _fusion_flop, table


def test_there_is_one_card_for_each_architecture() -> None:
    assert [card.capability for card in CARDS] == list(ARCHITECTURES)


def test_the_longer_of_two_floors_counts() -> None:
    h100 = card_of(90)
    assert Work("moves", 1.0, 3.35e12, True).seconds(h100) == pytest.approx(1.0)
    assert Work("computes", 989e12, 1.0, True).seconds(h100) == pytest.approx(1.0)
    assert Work("computes", 989e12, 1.0, True).bound(h100) == "FLOP"
    assert Work("moves", 1.0, 3.35e12, True).bound(h100) == "bytes"


@pytest.mark.parametrize("form", FUSION_FORMS)
def test_fusion_flop_are_those_that_pytorch_counts(form: FusionForm) -> None:
    """The closed form leaves out the products of M rows alone; PyTorch counts every operator."""
    visual, audio = torch.empty(5, 4096, 256, device="meta"), torch.empty(5, 256, device="meta")
    shapes = [(384, 256), (384,), (640, 256), (640,), *[(256, 128), (256,), (256,), (256,)] * 2]
    weights = FusionWeights(*(torch.empty(shape, device="meta") for shape in shapes))
    flop = count_operators(fuse, visual, audio, weights, form).flop
    assert _fusion_flop(5, 4096, 5, 256, 128)[form] == pytest.approx(flop, rel=0.1)


def test_the_readme_shows_this_table(repository_root: Path) -> None:
    assert table() in (repository_root / "kernels" / "README.md").read_text()

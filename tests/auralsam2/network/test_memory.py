"""Keys that are projected once for all readers of a frame are those that each reader would project for itself."""

import copy
import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from auralsam2 import AuralSAM2
from auralsam2.network.memory import Remembered, attend, attend_prepared, fold_values, gather, prepare
from auralsam2.network.positions import pair_exchange

NUM_FRAMES = 5


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    return AuralSAM2.from_preset("compact", 224).eval()


def bank_of(model: AuralSAM2) -> dict[int, Remembered]:
    draw = torch.Generator().manual_seed(7)
    num_tokens, width = model.positions().memory.shape
    return {
        t: Remembered(
            torch.randn(num_tokens, width, generator=draw), torch.randn(1, model.preset.width, generator=draw)
        )
        for t in range(NUM_FRAMES - 1)
    }


def read_all(model: AuralSAM2, *, kept: bool) -> list[torch.Tensor]:
    bank, positions = bank_of(model), model.positions()
    image = torch.randn(positions.image.shape, generator=torch.Generator().manual_seed(8))
    read = []
    for frame in range(1, NUM_FRAMES):
        reading = gather(model.v_model, bank, frame, (0,), positions)
        if not kept:
            reading = dataclasses.replace(reading, keys=None)
        read.append(attend(model.v_model, image, reading, positions))
    return read


def test_kept_keys_change_nothing(model: AuralSAM2) -> None:
    with torch.inference_mode():
        for found, wanted in zip(read_all(model, kept=True), read_all(model, kept=False), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_values_and_output_in_one_product_change_nothing(model: AuralSAM2) -> None:
    folded = copy.deepcopy(model)
    fold_values(folded.v_model)
    flop, read = {}, {}
    for which, network in (("plain", model), ("folded", folded)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            read[which] = read_all(network, kept=True)
        flop[which] = counter.get_total_flops()
    for found, wanted in zip(read["folded"], read["plain"], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    num_tokens, width = model.positions().image.shape
    # One square product in each attention, two attentions a layer.
    saved = 2 * 2 * num_tokens * width * width * len(model.v_model.memory_attention.layers)
    assert flop["plain"] - flop["folded"] == (NUM_FRAMES - 1) * saved


def test_what_is_prepared_of_a_frame_is_the_same_for_every_memory(model: AuralSAM2) -> None:
    bank, positions = bank_of(model), model.positions()
    image = torch.randn(positions.image.shape, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        prepared = prepare(model.v_model, image, positions)
        for frame in range(1, NUM_FRAMES):
            reading = gather(model.v_model, bank, frame, (0,), positions)
            found = attend_prepared(model.v_model, prepared, reading, positions)
            torch.testing.assert_close(found, attend(model.v_model, image, reading, positions), rtol=0, atol=0)


def test_rotation_by_a_product_changes_nothing(model: AuralSAM2) -> None:
    bank, positions = bank_of(model), model.positions()
    by_product = dataclasses.replace(positions, exchange=pair_exchange(model.preset.width))
    image = torch.randn(positions.image.shape, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        reading = gather(model.v_model, bank, NUM_FRAMES - 1, (0,), positions)
        found, wanted = (attend(model.v_model, image, reading, each) for each in (by_product, positions))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_each_frame_is_projected_once(model: AuralSAM2) -> None:
    """Ten readings of four frames: six projections of a frame are saved, in each of the layers."""
    flop = {}
    for kept in (True, False):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            read_all(model, kept=kept)
        flop[kept] = counter.get_total_flops()
    num_tokens, width = model.positions().memory.shape
    layers = len(model.v_model.memory_attention.layers)
    saved, temporal = 6 * 2 * num_tokens * width * model.preset.width, 10 * 2 * width * model.preset.width
    assert flop[False] - flop[True] == layers * (saved - temporal)

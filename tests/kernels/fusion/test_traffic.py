"""Device-memory traffic of a stage (T = 5, 64 x 64, float16), counted from launches, against the floor and eager."""

import pytest
import torch

from auralsam2.network.fusion import AudioVisualFusion
from kernels.counting import count_operators
from kernels.fusion.plan import FusionSizes, default_blocks, plan
from kernels.fusion.reference import FUSION_FORMS, FusionForm
from kernels.launching.launch import Plan
from kernels.tuning import blocks_of

CAPABILITIES = (80, 86, 89, 90, 100, 120)
FRAMES_BYTES = 5 * 64 * 64 * 256 * 2


def production(form: FusionForm, capability: int | None = None) -> Plan:
    blocks = (
        default_blocks(torch.float16)
        if capability is None
        else blocks_of(torch.float16, f"sm_{capability}", capability)
    )
    return plan(FusionSizes.of(5, 64 * 64, 5, 256, 128), torch.float16, form, blocks)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("form", FUSION_FORMS)
def test_at_most_half_again_over_the_floor_and_one_more_reading(form: FusionForm, capability: int) -> None:
    """The floor reads and writes the frames once; the two directions cannot be had without reading them again."""
    moved = sum(production(form, capability).traffic().values())
    floor = 2 * FRAMES_BYTES
    assert floor < moved <= 1.5 * floor + FRAMES_BYTES


@pytest.mark.parametrize("form", FUSION_FORMS)
def test_at_least_five_times_less_than_eager(form: FusionForm) -> None:
    """Eager is the network's plain module, each of its operators one kernel that reads and writes once."""
    module = AudioVisualFusion(256, 128, form).eval().half().to("meta")
    visual = torch.empty(5, 64 * 64, 256, dtype=torch.float16, device="meta")
    with torch.no_grad():
        eager = count_operators(module, visual, visual[:, 0], 64)
    assert eager.bytes >= 5 * sum(production(form).traffic().values())


def test_each_launch_counts_every_buffer_that_it_names() -> None:
    """By hand for the pass over the frames: x, three weights and biases, tokens in; scores and sums out, float32."""
    inner, width, tokens, blocks = 128, 256, 5, 5 * 32
    by_hand = FRAMES_BYTES + 3 * inner * (width + 1) * 2 + tokens * (width + 3 * inner) * 4
    by_hand += 2 * blocks * tokens * inner * 4
    assert production("released").traffic()["released_sums"] == by_hand

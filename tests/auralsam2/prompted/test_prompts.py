"""Prompts as tokens: absent slots change nothing, and a prompt that does not fit is named."""

import pytest
import torch
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.model.loading import load_aural_sam2
from auralsam2.network import mask_decoder
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompted_masks import decode_prompted
from auralsam2.prompted.prompts import NUM_SLOTS, FramePrompt, mask_embedding, pad_points, sparse_tokens
from auralsam2_client.contract import MAX_POINTS


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    return load_aural_sam2("compact")[0]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_points", [0, 1, 3, MAX_POINTS])
def test_absent_slots_change_nothing(model: AuralSAM2, num_points: int) -> None:
    sam = model.v_model
    coords, labels = 256 * random(num_points, 2).sigmoid(), torch.arange(num_points) % 2
    answers = []
    for num_slots in (None, NUM_SLOTS):
        slots, names = pad_points(coords, labels, num_slots)
        sparse, absent = sparse_tokens(sam, slots[None], names[None])
        assert int((~absent).sum()) == (num_points + 1 if num_points else 2)
        answers.append(
            decode_prompted(
                sam,
                random(1, 256, 128),
                (random(1, 16, 64, 64, seed=1), random(1, 32, 32, 32, seed=2)),
                sparse,
                None if num_slots is None else absent,
                mask_embedding(sam, 5 * random(1, 1, 64, 64, seed=3)),
                mask_decoder.dense_positions(sam),
            )
        )
    for exact, filled in zip(*answers, strict=True):
        torch.testing.assert_close(filled, exact, rtol=0, atol=2e-5 * exact.abs().max().item())


def test_what_lies_in_an_absent_slot_is_not_read(model: AuralSAM2) -> None:
    sam = model.v_model
    slots, names = pad_points(torch.tensor([[10.0, 20.0]]), torch.tensor([1]), 5)
    rest = (
        random(1, 256, 128),
        (random(1, 16, 64, 64), random(1, 32, 32, 32)),
        sam.sam_prompt_encoder.no_mask_embed.weight,
    )
    logits = []
    for scale in (1.0, 1000.0):
        sparse, absent = sparse_tokens(sam, slots[None], names[None])
        sparse = torch.where(absent[..., None], scale * sparse, sparse)
        image, high_res, dense = rest
        masks = decode_prompted(sam, image, high_res, sparse, absent, dense, mask_decoder.dense_positions(sam))
        logits.append(masks.low_res_logits)
    assert torch.equal(*logits)


def points(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 2), torch.ones(count)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "one or more"),
        ([FramePrompt(2, *points(1))], "0 to 1"),
        ([FramePrompt(0, *points(1)), FramePrompt(0, *points(2))], "each for another"),
        ([FramePrompt(0, *points(MAX_POINTS + 1))], "P up to 16"),
        ([FramePrompt(0, torch.zeros(2, 2), torch.ones(1))], r"\[2, 2\] for 1 labels"),
        ([FramePrompt(1, *points(0))], "frame 1 has neither"),
        ([FramePrompt(0, *points(0), mask=torch.zeros(32, 32))], r"must be \[64, 64\]"),
        ([FramePrompt(0, *points(1), previous=torch.zeros(64, 63))], r"must be \[64, 64\]"),
        ([FramePrompt(0, *points(1), mask=torch.zeros(64, 64), previous=torch.zeros(64, 64))], "leave one out"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(model: AuralSAM2, prompts: list[FramePrompt], message: str) -> None:
    image = ImageFeatures(torch.zeros(2, 16, 64, 64), torch.zeros(2, 32, 32, 32), torch.zeros(2, 128, 16, 16))
    with pytest.raises(NetworkError, match=message):
        model.track_prompts(image, prompts)

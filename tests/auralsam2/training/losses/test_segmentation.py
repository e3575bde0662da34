"""Each loss against figures worked out by hand, and who learns from what."""

import math

import pytest
import torch

from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.training.losses.segmentation import (
    SegmentationLoss,
    dice_loss,
    focal_loss,
    intersection_over_union,
    segmentation_loss,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_focal_by_hand() -> None:
    logits = torch.tensor([logit(0.9), logit(0.2)])
    target = torch.tensor([1.0, 0.0])
    wanted = (0.25 * 0.1**2 * -math.log(0.9) + 0.75 * 0.2**2 * -math.log(0.8)) / 2
    assert focal_loss(logits, target).item() == pytest.approx(wanted, rel=1e-5)


def test_dice_by_hand() -> None:
    logits = torch.tensor([logit(0.9), logit(0.2), logit(0.5)])
    target = torch.tensor([1.0, 0.0, 1.0])
    wanted = 1 - (2 * (0.9 + 0.5) + 1) / (0.9 + 0.2 + 0.5 + 2 + 1)
    assert dice_loss(logits, target).item() == pytest.approx(wanted, rel=1e-5)


def test_iou_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0, -1.0], [-1.0] * 4])
    target = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0] * 4])
    assert intersection_over_union(logits, target).tolist() == pytest.approx([1 / 3, 0.0])


def test_the_ratio_is_20_1_1_1() -> None:
    parts = SegmentationLoss(*torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert parts.total.item() == pytest.approx(20 + 10 + 100 + 1000)


def clip(num_frames: int = 2) -> tuple[ClipOutput, torch.Tensor]:
    """Candidate 1 is nearest to the truth of frame 0; the other frames show nothing."""
    masks = torch.zeros(num_frames, 32, 32)
    masks[0, 8:16, 8:16] = 1
    logits = torch.full((num_frames, 3, 8, 8), -3.0)
    logits[:, 1, 2:4, 2:4] = 3
    logits[:, 2] = 3
    output = ClipOutput(
        logits.requires_grad_(),
        torch.full((num_frames, 3), 0.5).requires_grad_(),
        torch.zeros(num_frames, 1).requires_grad_(),
        torch.zeros(num_frames, 8),
    )
    return output, masks


def test_only_the_best_candidate_learns_its_mask_and_only_where_something_sounds() -> None:
    output, masks = clip()
    loss = segmentation_loss(output, masks)
    (20 * loss.focal + loss.dice).backward()
    moved = output.low_res_logits.grad.abs().sum((2, 3))  # type: ignore[union-attr]
    assert moved[0, 1] > 0
    assert moved[0, [0, 2]].sum() == 0
    assert moved[1].sum() == 0


def test_every_candidate_learns_its_iou_where_something_sounds() -> None:
    output, masks = clip()
    loss = segmentation_loss(output, masks)
    loss.iou.backward()
    gradient = output.iou.grad
    assert gradient is not None
    assert (gradient[0] != 0).all()
    assert (gradient[1] == 0).all()
    overlap = 64 / 1024  # of candidate 2, which lights everything
    with torch.no_grad():
        candidate = torch.nn.functional.interpolate(output.low_res_logits, size=32, mode="bilinear")[0, 1] > 0
        best = (candidate & (masks[0] > 0)).sum() / (candidate | (masks[0] > 0)).sum()
    wanted = (
        (0.5**2 + (0.5 - best.item()) ** 2 + (0.5 - overlap) ** 2) / 3 / 2
    )  # mean over candidates, then over the two frames
    assert loss.iou.item() == pytest.approx(wanted, rel=1e-5)


def test_released_the_error_of_the_iou_is_absolute() -> None:
    output, masks = clip()
    with torch.no_grad():
        squared, absolute = (segmentation_loss(output, masks, error).iou.item() for error in ("squared", "absolute"))  # type: ignore[arg-type]
        candidates = torch.nn.functional.interpolate(output.low_res_logits, size=32, mode="bilinear")
        overlap = intersection_over_union(candidates.flatten(2), masks.flatten(1)[:, None])
    errors = 0.5 - overlap[0]
    assert squared == pytest.approx((errors**2).mean().item() / 2, rel=1e-5)
    assert absolute == pytest.approx(errors.abs().mean().item() / 2, rel=1e-5)


def test_released_losses_are_sums_over_the_frames() -> None:
    output, masks = clip(4)
    with torch.no_grad():
        means = segmentation_loss(output, masks)
        sums = segmentation_loss(output, masks, frame_losses="sum")
    for mean, whole in zip(means, sums, strict=True):
        assert mean > 0
        assert whole.item() == pytest.approx(4 * mean.item(), rel=1e-5)


def test_the_object_score_learns_from_every_frame() -> None:
    output, masks = clip()
    loss = segmentation_loss(output, masks)
    assert loss.occlusion.item() == pytest.approx(math.log(2), rel=1e-5)
    loss.occlusion.backward()
    gradient = output.object_score.grad
    assert gradient is not None
    assert gradient[0] < 0 < gradient[1]


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:4, 2:4] = 1
    logits = torch.where(masks > 0, 20.0, -20.0)[:, None].repeat(1, 3, 1, 1)
    output = ClipOutput(logits, torch.ones(1, 3), torch.full((1, 1), 20.0), torch.zeros(1, 8))
    assert segmentation_loss(output, masks).total.item() < 1e-4

"""The paper's segmentation losses: focal, dice, IoU and occlusion, 20 : 1 : 1 : 1.

Source: AuralSAM2, supplementary Sec. 1.2; SAM2's training losses. Of the three candidates only the one that is best by
20 focal + dice learns its mask; every candidate learns to predict its own IoU, or the read-outs that choose by it could
fall for one that nobody ever corrected. Released, that error is absolute and losses are summed over the frames; the
project's is squared: an absolute one teaches the median, and while a candidate still misses most objects its median is
nothing. Frames without object teach the object score alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.training.settings import FrameLosses, IouError

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT, OCCLUSION_WEIGHT = 20.0, 1.0, 1.0, 1.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


class SegmentationLoss(NamedTuple):
    """Means, or sums, over the frames of a clip, scalars, before weighting."""

    focal: Tensor
    dice: Tensor
    iou: Tensor
    occlusion: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum."""
        return (
            FOCAL_WEIGHT * self.focal
            + DICE_WEIGHT * self.dice
            + IOU_WEIGHT * self.iou
            + OCCLUSION_WEIGHT * self.occlusion
        )


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sigmoid focal loss, mean over the last axis. logits, target (0 or 1): [..., P] -> [...]."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = torch.where(target > 0.5, 1 - logits.sigmoid(), logits.sigmoid())
    weight = torch.where(target > 0.5, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    return (weight * missed**FOCAL_GAMMA * entropy).mean(-1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute 1 - (2 overlap + 1) / (sizes + 1) over the last axis. logits, target (0 or 1): [..., P] -> [...]."""
    share = logits.sigmoid()
    return 1 - (2 * (share * target).sum(-1) + 1) / (share.sum(-1) + target.sum(-1) + 1)


def intersection_over_union(logits: Tensor, target: Tensor) -> Tensor:
    """Compute IoU over the last axis, of logits > 0 with a target of 0 and 1; 0 where both are empty. [..., P] ->
    [...].
    """
    mask, truth = logits > 0, target > 0.5
    return (mask & truth).sum(-1) / (mask | truth).sum(-1).clamp(min=1)


def segmentation_loss(
    output: ClipOutput, masks: Tensor, iou_error: IouError = "squared", frame_losses: FrameLosses = "mean"
) -> SegmentationLoss:
    """Compute the four losses of one clip.

    Args:
        output: of the network, T frames.
        masks: [T, S, S] float32, 0 or 1; candidates are enlarged bilinearly to S.
        iou_error: how far a predicted IoU is from the candidate's own.
        frame_losses: how the frames make one loss.
    """
    candidates = F.interpolate(output.low_res_logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    logits, target = candidates.flatten(2), masks.flatten(1)[:, None]  # [T, 3, P], [T, 1, P]
    shows = (target[:, 0] > 0.5).any(-1).float()  # [T]
    with torch.no_grad():
        wide = target.expand_as(logits)
        best = (FOCAL_WEIGHT * focal_loss(logits, wide) + DICE_WEIGHT * dice_loss(logits, wide)).argmin(1)
        overlap = intersection_over_union(logits, target)
    chosen = logits[torch.arange(len(best), device=best.device), best]
    focal, dice = focal_loss(chosen, target[:, 0]), dice_loss(chosen, target[:, 0])
    error = F.l1_loss if iou_error == "absolute" else F.mse_loss
    iou = error(output.iou, overlap, reduction="none").mean(1)
    over_frames = torch.sum if frame_losses == "sum" else torch.mean
    return SegmentationLoss(
        over_frames(focal * shows),
        over_frames(dice * shows),
        over_frames(iou * shows),
        F.binary_cross_entropy_with_logits(output.object_score[:, 0], shows, reduction=frame_losses),
    )

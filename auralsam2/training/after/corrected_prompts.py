"""Prompts of single frames, half of them corrected: the click that a person would set next, and what that costs."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.evaluation.clicks import corrective_click
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import mask_decoder
from auralsam2.prompted.prompted_masks import PromptedMasks, decode_prompted
from auralsam2.prompted.prompts import ABSENT, NUM_SLOTS, PREVIOUS_LIMIT, mask_embedding, pad_points, sparse_tokens
from auralsam2.training.after.prompt_examples import Drawn, draw_prompt
from auralsam2.training.losses.segmentation import (
    DICE_WEIGHT,
    FOCAL_WEIGHT,
    IOU_WEIGHT,
    OCCLUSION_WEIGHT,
    dice_loss,
    focal_loss,
    intersection_over_union,
)

CORRECTED_SHARE, MAX_CORRECTIONS = 0.5, 2
CANDIDATES_WEIGHT = 0.5


class Looked(Protocol):
    """What frozen parts make of one frame, float16, and the thing seen at each pixel, [S, S]."""

    @property
    def embedding(self) -> Tensor: ...

    @property
    def high_res_s4(self) -> Tensor: ...

    @property
    def high_res_s8(self) -> Tensor: ...

    @property
    def owners(self) -> NDArray[np.int8]: ...


class Seen(NamedTuple):
    """One frame of a clip; see `Looked`."""

    embedding: Tensor
    high_res_s4: Tensor
    high_res_s8: Tensor
    owners: NDArray[np.int8]


def corrected_losses(
    model: AuralSAM2, frames: Sequence[Looked], count: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Compute the losses of `count` prompts that are drawn for these frames, half of them corrected."""
    chosen, asked = list[Looked](), list[Drawn]()
    while len(chosen) < count:
        frame = frames[int(rng.integers(len(frames)))]
        drawn = draw_prompt(frame.owners, rng)
        if drawn is not None:
            chosen.append(frame)
            asked.append(drawn)
    batch = _Batch(model, chosen)
    previous = torch.zeros(count, *chosen[0].high_res_s4.shape[-2:])
    corrected = rng.uniform(size=count) < CORRECTED_SHARE
    for _ in range(int(rng.integers(1, MAX_CORRECTIONS + 1))):
        if corrected.any():
            _correct(model, chosen, asked, previous, np.flatnonzero(corrected))
    return prompt_losses(batch.decode(asked, previous), asked)


def _correct(
    model: AuralSAM2, frames: Sequence[Looked], asked: list[Drawn], previous: Tensor, those: NDArray[np.intp]
) -> None:
    """Add to `those` prompts the click that the network's answer to them asks for, and the answer's logits."""
    own = [asked[i] for i in those]
    with torch.no_grad():
        answers = _Batch(model, [frames[i] for i in those]).decode(own, previous[those])
        chosen = _chosen(answers, own)
        masks = F.interpolate(chosen[:, None], scale_factor=4.0, mode="bilinear")[:, 0] > 0
    for i, drawn, logits, mask in zip(those, own, chosen, masks, strict=True):
        click = corrective_click(mask.numpy(), drawn.truth)
        if click is not None:
            previous[i] = logits.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)
            coords = np.concatenate([drawn.coords, [[click.x, click.y]]]).astype(np.float32)
            asked[i] = drawn._replace(coords=coords, labels=np.append(drawn.labels, click.label))


class _Batch:
    """Frames to be decoded with prompts, as often as one likes."""

    def __init__(self, model: AuralSAM2, frames: Sequence[Looked]) -> None:
        self.sam = model.v_model
        self.high_res = (
            torch.stack([f.high_res_s4 for f in frames]).float(),
            torch.stack([f.high_res_s8 for f in frames]).float(),
        )
        embedding = torch.stack([f.embedding for f in frames]).float()
        self.tokens = embedding.flatten(2).transpose(1, 2) + self.sam.no_mem_embed[0]

    def decode(self, asked: list[Drawn], previous: Tensor) -> PromptedMasks:
        """`previous` [B, S/4, S/4], all zero where there is none."""
        sam = self.sam
        slots = [pad_points(torch.from_numpy(d.coords), torch.from_numpy(d.labels), NUM_SLOTS) for d in asked]
        coords, labels = (torch.stack(parts) for parts in zip(*slots, strict=True))
        used = int((labels != ABSENT).sum(1).max())
        sparse, absent = sparse_tokens(sam, coords[:, :used], labels[:, :used])
        given = (previous != 0).flatten(1).any(1)
        dense = torch.where(
            given[:, None, None], mask_embedding(sam, previous[:, None]), sam.sam_prompt_encoder.no_mask_embed.weight
        )
        return decode_prompted(
            sam, self.tokens, self.high_res, sparse, absent, dense, mask_decoder.dense_positions(sam)
        )


def _chosen(masks: PromptedMasks, asked: list[Drawn]) -> Tensor:
    """[B, S/4, S/4]: mask 0 of more than one point, else the best candidate."""
    best = 1 + masks.iou[:, 1:].argmax(1)
    many = torch.tensor([len(d.labels) > 1 for d in asked])
    return masks.low_res_logits[torch.arange(len(asked)), torch.where(many, 0, best)]


def prompt_losses(masks: PromptedMasks, asked: list[Drawn]) -> dict[str, Tensor]:
    """Compute the paper's four losses, of mask 0 and of the best of the three candidates."""
    truth = torch.stack([torch.from_numpy(d.truth) for d in asked]).float()
    # At half the frame's size: a quarter of the arithmetic, and thin arms are still seen.
    target = F.avg_pool2d(truth[:, None], 2).round().flatten(2)
    logits = F.interpolate(masks.low_res_logits, size=truth.shape[1] // 2, mode="bilinear").flatten(2)
    wide = target.expand_as(logits)
    each = FOCAL_WEIGHT * focal_loss(logits, wide) + DICE_WEIGHT * dice_loss(logits, wide)  # [B, 4]
    with torch.no_grad():
        overlap = intersection_over_union(logits, target)
    return {
        "mask": each[:, 0].mean(),
        "candidates": CANDIDATES_WEIGHT * each[:, 1:].amin(1).mean(),
        "iou": IOU_WEIGHT * F.mse_loss(masks.iou, overlap),
        "occlusion": OCCLUSION_WEIGHT
        * F.binary_cross_entropy_with_logits(masks.object_score, torch.ones_like(masks.object_score)),
    }

"""The frame loop: decode the conditioning frame, then every other frame in order, each reading what came before."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.mask_decoder import FrameMasks, decode
from auralsam2.network.memory import MemoryReading, Positions, Remembered, attend, gather, remember
from auralsam2.network.precision import widen
from auralsam2.network.readout import best
from auralsam2.network.segment_anything import SegmentAnything


class ImageFeatures(NamedTuple):
    """What the decoder needs of a clip's frames."""

    high_res_s4: Tensor
    """[T, C/8, S/4, S/4]: FPN level 0 through `conv_s0`."""
    high_res_s8: Tensor
    """[T, C/4, S/8, S/8]: FPN level 1 through `conv_s1`."""
    embedding: Tensor
    """[T, C, S/16, S/16]: FPN level 2."""


class Tracked(NamedTuple):
    low_res_logits: Tensor
    iou: Tensor
    object_score: Tensor
    object_pointer: Tensor


def decoding_order(num_frames: int, conditioning_frame: int) -> list[int]:
    """Put the conditioning frame first, then the others in order of time."""
    return [conditioning_frame, *(t for t in range(num_frames) if t != conditioning_frame)]


def _object_pointer(sam: SegmentAnything, masks: FrameMasks) -> Tensor:
    """[1, C]: the best candidate's pointer, or the fixed `no_obj_ptr` where the frame shows no object."""
    pointer: Tensor = sam.obj_ptr_proj(best(masks.tokens, masks.iou))
    return torch.where(masks.object_score > 0, pointer, sam.no_obj_ptr)


def track(
    sam: SegmentAnything,
    image: ImageFeatures,
    aural: AuralFeatures,
    conditioning_frame: int,
    positions: Positions,
    dense: Tensor,
    *,
    read: Callable[[SegmentAnything, Tensor, MemoryReading, Positions], Tensor] = attend,
    remember_last: bool = False,
) -> Tracked:
    """Decode every frame of one clip; outputs stacked along T, in order of time, in float32 at least.

    Args:
        dense: [N, C] decoder positions.
        read: how a frame's tokens read the memory.
        remember_last: run the memory encoder on the last frame too, which nobody reads, as published.
    """
    num_frames = image.embedding.shape[0]
    order = decoding_order(num_frames, conditioning_frame)
    bank: dict[int, Remembered] = {}
    decoded: dict[int, FrameMasks] = {}
    for t in order:
        own = image.embedding[t].flatten(1).T  # [N, C]
        if t == conditioning_frame:
            conditioned = own + sam.no_mem_embed[0]
        else:
            memory = gather(sam, bank, t, (conditioning_frame,), positions)
            conditioned = read(sam, own, memory, positions)
        masks = decode(
            sam,
            conditioned,
            (image.high_res_s4[t : t + 1], image.high_res_s8[t : t + 1]),
            [v[t].flatten(1).T for v in aural.visual],
            [a[t : t + 1] for a in aural.audio],
            dense,
        )
        features = None
        if remember_last or t != order[-1]:
            features = remember(sam, image.embedding[t : t + 1], best(masks.low_res_logits, masks.iou)[:, None])
        bank[t] = Remembered(features, _object_pointer(sam, masks))
        decoded[t] = masks
    frames = [decoded[t] for t in range(num_frames)]
    return Tracked(
        widen(torch.cat([f.low_res_logits for f in frames])),
        widen(torch.cat([f.iou for f in frames])),
        widen(torch.cat([f.object_score for f in frames])),
        widen(torch.cat([bank[t].pointer for t in range(num_frames)])),
    )

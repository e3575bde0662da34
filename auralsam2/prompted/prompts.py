"""SAM2's own prompts: points, box corners and a mask of one frame, as tokens and as a map that the decoder reads.

Source: SAM2's PromptEncoder and the video predictor that calls it. Changed, with the same result: a token may be marked
absent, so that every prompt fills the same number of slots; the decoder then masks it out of its attentions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from auralsam2.errors import NetworkError
from auralsam2.network.precision import cast
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.presets import STRIDE
from auralsam2_client import contract

NUM_SLOTS = contract.MAX_POINTS + 1
"""SAM2's own padding point follows the points."""
ABSENT, PADDING, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -2, -1, 0, 1, 2, 3
"""Labels of a slot. PADDING is a token of SAM2's own that says "not a point"; ABSENT is a slot that nobody reads."""
PREVIOUS_LIMIT = 32.0
"""SAM2's predictor clamps the logits of an earlier round to this, either side."""
# A mask that is given counts as logits of -10 outside and 10 inside.
MASK_SCALE, MASK_BIAS = 20.0, -10.0


FramePrompt = contract.FramePrompt[Tensor]
"""What a person says about one frame; beside a mask, points may stand that refine it."""


def check_prompts(prompts: list[FramePrompt], num_frames: int, image_size: int) -> None:
    """Raise NetworkError for a prompt that says nothing, says too much, or does not fit the clip."""
    side = 4 * image_size // STRIDE
    frames = [prompt.frame for prompt in prompts]
    if not frames or len(set(frames)) < len(frames) or not all(0 <= frame < num_frames for frame in frames):
        raise NetworkError(f"prompts for the frames {frames}; one or more, each for another of 0 to {num_frames - 1}.")
    for prompt in prompts:
        points, where = len(prompt.labels), f"the prompt of frame {prompt.frame}"
        if prompt.coords.shape != (points, 2) or points > contract.MAX_POINTS:
            raise NetworkError(
                f"{where}: coords {list(prompt.coords.shape)} for {points} labels; [P, 2] for [P], P up to"
                f" {contract.MAX_POINTS}."
            )
        for name, given in (("mask", prompt.mask), ("previous", prompt.previous)):
            if given is not None and given.shape != (side, side):
                raise NetworkError(f"{where}: {name} is {list(given.shape)}; it must be [{side}, {side}].")
        if not points and prompt.mask is None:
            raise NetworkError(f"{where} has neither points nor a mask; give one of them.")
        if prompt.previous is not None and prompt.mask is not None:
            raise NetworkError(f"{where} has a mask and previous logits; a mask stands for itself, leave one out.")


def pad_points(coords: Tensor, labels: Tensor, num_slots: int | None = None) -> tuple[Tensor, Tensor]:
    """Pad points [P, 2] and labels [P] as SAM2 does: one padding point after them, two where there are none.

    Args:
        num_slots: fill up with absent slots to this number; None adds none.
    """
    padding = 1 if len(labels) else 2
    absent = 0 if num_slots is None else num_slots - len(labels) - padding
    coords, labels = coords.float(), labels.float()
    fill = [labels.new_full((padding,), PADDING), labels.new_full((absent,), ABSENT)]
    return torch.cat([coords, coords.new_zeros(padding + absent, 2)]), torch.cat([labels, *fill])


def sparse_tokens(sam: SegmentAnything, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute tokens [B, P, C] of points, and which of them are absent, [B, P] bool.

    Args:
        coords: [B, P, 2] float32 in pixels; labels: [B, P] float32, padding included.
    """
    encoder = sam.sam_prompt_encoder
    places = encoder.pe_layer.forward_with_coords(coords + 0.5, encoder.input_image_size)
    places = cast(places, encoder.not_a_point_embed.weight.dtype)
    tokens = torch.where((labels == PADDING)[..., None], encoder.not_a_point_embed.weight, places)
    for label, embedding in enumerate(encoder.point_embeddings):
        tokens = torch.where((labels == label)[..., None], places + embedding.weight, tokens)
    return tokens, labels == ABSENT


def mask_embedding(sam: SegmentAnything, logits: Tensor) -> Tensor:
    """Embed mask logits [B, 1, S/4, S/4] as [B, N, C], in the place of `no_mask_embed` before the decoder."""
    downscaling = sam.sam_prompt_encoder.mask_downscaling
    embedded: Tensor = downscaling(cast(logits, downscaling[0].weight.dtype))
    return embedded.flatten(2).transpose(1, 2)


class GivenMask(NamedTuple):
    logits: Tensor
    """[1, 1, S/4, S/4]: the answer of this frame, -10 outside and 10 inside, blurred at the rim."""
    dense: Tensor
    """[1, 1, S/4, S/4]: the prompt from which the frame's object pointer is made."""
    empty: Tensor
    """[] bool."""


def given_mask(sam: SegmentAnything, mask: Tensor) -> GivenMask:
    """Read a mask [S/4, S/4] that a person gave: SAM2 answers with it, through the size of the frame and back."""
    size = sam.sam_prompt_encoder.input_image_size
    inside = (mask > 0).float()[None, None]
    enlarged = F.interpolate(inside, size=size, mode="bilinear", align_corners=False, antialias=True)
    hard = (enlarged >= 0.5).float()
    logits = F.interpolate(
        hard * MASK_SCALE + MASK_BIAS, size=mask.shape, mode="bilinear", align_corners=False, antialias=True
    )
    dense = sam.mask_downsample(cast(hard, sam.mask_downsample.weight.dtype))
    return GivenMask(logits, dense, ~hard.any())

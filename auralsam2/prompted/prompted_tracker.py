"""SAM2's promptable segmentation and tracking on the features of a clip: no sound, the rules of its video predictor.

Source: SAM2VideoPredictor and SAM2Base with the 2.0 configurations and the overrides of build_sam2_video_predictor.
Prompted frames are decoded first and see no memory; the others are tracked forward from the first of them to the end,
then backward to the start. Left out: the filling of holes, which SAM2 does after the masks and on CUDA only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from auralsam2.network.memory import (
    MemoryReading,
    Positions,
    Remembered,
    attend,
    enlarge,
    gather,
    harden,
    remember_mask,
)
from auralsam2.network.precision import widen
from auralsam2.network.readout import NO_OBJECT_LOGIT, best
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompted_masks import PromptedMasks, decode_prompted
from auralsam2.prompted.prompts import (
    PREVIOUS_LIMIT,
    FramePrompt,
    check_prompts,
    given_mask,
    mask_embedding,
    pad_points,
    sparse_tokens,
)

MAX_POINTS_OF_THREE_MASKS = 1
"""Up to one point, SAM2 gives three candidates; with more, one mask. A box counts as two points."""
STABILITY_DELTA, STABILITY_THRESHOLD = 0.05, 0.98
MASK_SCORE = 10.0
"""SAM2's object score of a frame whose mask was given; negative where that mask is empty."""


class PromptedClip(NamedTuple):
    low_res_logits: Tensor
    """[T, 3, S/4, S/4]. Where SAM2 gives one mask, it stands in all three."""
    iou: Tensor
    """[T, 3]."""
    object_score: Tensor
    """[T, 1], logit."""
    masks: Tensor
    """[T, S/4, S/4], the chosen logits; NO_OBJECT_LOGIT everywhere in a frame without the object."""


@dataclass(frozen=True)
class Answer:
    """One frame."""

    candidates: Tensor
    """[1, 3, S/4, S/4]."""
    iou: Tensor
    """[1, 3]."""
    mask: Tensor
    """[1, 1, S/4, S/4]."""
    object_score: Tensor
    """[1, 1]."""
    pointer: Tensor
    """[1, C]."""
    prompted: bool


def stability(logits: Tensor) -> Tensor:
    """Measure [B] in [0, 1]: how little a mask [B, S/4, S/4] changes when its threshold moves; 1 for an empty one."""
    inner = (logits > STABILITY_DELTA).flatten(1).sum(1).float()
    outer = (logits > -STABILITY_DELTA).flatten(1).sum(1).float()
    return torch.where(outer > 0, inner / outer, 1.0)


def choose(sam: SegmentAnything, masks: PromptedMasks, num_points: int, prompted: bool) -> Answer:
    """Make SAM2's choice among the decoder's four masks, of one frame."""
    tokens = masks.tokens
    logits = torch.where(masks.object_score[..., None, None] > 0, masks.low_res_logits, NO_OBJECT_LOGIT)
    candidates, iou = logits[:, 1:], masks.iou[:, 1:]
    mask, token = best(candidates, iou), tokens[:, 0]
    if num_points <= MAX_POINTS_OF_THREE_MASKS:
        token = best(tokens[:, 1:], iou)
    else:
        stable = stability(masks.low_res_logits[:, 0]) >= STABILITY_THRESHOLD
        mask = torch.where(stable[:, None, None], logits[:, 0], mask)
        iou = torch.where(stable, masks.iou[:, 0], best(iou, iou))[:, None].expand(-1, 3)
        candidates = mask[:, None].expand(-1, 3, -1, -1)
    pointer = torch.where(masks.object_score > 0, sam.obj_ptr_proj(token), sam.no_obj_ptr)
    return Answer(candidates, iou, mask[:, None], masks.object_score, pointer, prompted)


class FrameByFrame:
    """The frames of one clip, decoded one at a time."""

    def __init__(self, sam: SegmentAnything, image: ImageFeatures, dense_positions: Tensor) -> None:
        self.sam, self.image, self._image_pe = sam, image, dense_positions

    def tokens(self, frame: int) -> Tensor:
        """Give a frame's tokens, [N, C]."""
        return self.image.embedding[frame].flatten(1).T

    def decode(self, frame: int, tokens: Tensor, coords: Tensor, labels: Tensor, dense: Tensor | None) -> PromptedMasks:
        """Decode a frame. `tokens`: what of it, [N, C]; `dense`: mask logits [1, 1, S/4, S/4]."""
        sam, image = self.sam, self.image
        coords, labels = pad_points(coords, labels)
        sparse, _ = sparse_tokens(sam, coords[None], labels[None])
        embedded = sam.sam_prompt_encoder.no_mask_embed.weight if dense is None else mask_embedding(sam, dense)
        high_res = image.high_res_s4[frame : frame + 1], image.high_res_s8[frame : frame + 1]
        return decode_prompted(sam, tokens[None], high_res, sparse, None, embedded, self._image_pe)

    def answer(self, prompt: FramePrompt) -> Answer:
        """Answer a prompt. A mask stands for itself; points refine it, as they refine logits of an earlier round."""
        sam, previous, given = self.sam, prompt.previous, None
        own = self.tokens(prompt.frame)
        if prompt.mask is not None:
            given = self._masked(prompt.frame, own, prompt.mask)
            previous = given.mask[0, 0]
        if not len(prompt.labels):
            assert given is not None, "check_prompts lets no prompt through that says nothing"
            return given
        dense = None if previous is None else previous.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)[None, None]
        masks = self.decode(prompt.frame, own + sam.no_mem_embed[0], prompt.coords, prompt.labels, dense)
        return choose(sam, masks, len(prompt.labels), prompted=True)

    def _masked(self, frame: int, own: Tensor, mask: Tensor) -> Answer:
        sam, given = self.sam, given_mask(self.sam, mask)
        # The pointer alone is decoded, and by the rule for one mask. No embedding says that there is no memory.
        masks = self.decode(frame, own, mask.new_zeros(0, 2), mask.new_zeros(0), given.dense)
        seen = (masks.object_score > 0) & ~given.empty
        pointer = torch.where(seen, sam.obj_ptr_proj(masks.tokens[:, 0]), sam.no_obj_ptr)
        score = torch.where(given.empty, -MASK_SCORE, MASK_SCORE)[None, None]
        candidates = given.logits.expand(-1, 3, -1, -1)
        return Answer(candidates, given.logits.new_ones(1, 3), given.logits, score, pointer, prompted=True)

    def remember(self, frame: int, answer: Answer) -> Remembered:
        """Make what a frame leaves behind. SAM2 keeps it in bfloat16, and masks of prompted frames as yes or no."""
        enlarged = enlarge(answer.mask)
        mask = harden(enlarged) if answer.prompted else torch.sigmoid(enlarged)
        features = remember_mask(self.sam, self.image.embedding[frame : frame + 1], mask)
        return Remembered(features.bfloat16().to(features.dtype), answer.pointer)


def track_prompts(
    sam: SegmentAnything,
    image: ImageFeatures,
    prompts: Sequence[FramePrompt],
    positions: Positions,
    dense_positions: Tensor,
    *,
    read: Callable[[SegmentAnything, Tensor, MemoryReading, Positions], Tensor] = attend,
) -> PromptedClip:
    """Segment what the prompts point at, in every frame of one clip.

    Args:
        prompts: one or more, each for a frame of its own.
        dense_positions: [N, C] from `network.mask_decoder.dense_positions`.
        read: how a frame's tokens read the memory.
    Raises: NetworkError when a prompt says nothing or does not fit the clip.
    """
    num_frames = image.embedding.shape[0]
    check_prompts(list(prompts), num_frames, sam.sam_prompt_encoder.input_image_size[0])
    frames = FrameByFrame(sam, image, dense_positions)
    answers = {prompt.frame: frames.answer(prompt) for prompt in prompts}
    conditioning = tuple(answers)
    bank = {}
    if len(answers) < num_frames:
        bank = {frame: frames.remember(frame, answer) for frame, answer in answers.items()}
    none = image.embedding.new_zeros(0, 2), image.embedding.new_zeros(0)
    start = min(conditioning)
    for reverse, order in ((False, range(start + 1, num_frames)), (True, range(start - 1, -1, -1))):
        for frame in order:
            if frame in answers:
                continue
            memory = gather(sam, bank, frame, conditioning, positions, reverse)
            tokens = read(sam, frames.tokens(frame), memory, positions)
            answers[frame] = choose(sam, frames.decode(frame, tokens, *none, None), 0, prompted=False)
            if len(answers) < num_frames:
                bank[frame] = frames.remember(frame, answers[frame])
    clip = [answers[frame] for frame in range(num_frames)]
    return PromptedClip(
        torch.cat([widen(answer.candidates) for answer in clip]),
        torch.cat([widen(answer.iou) for answer in clip]),
        torch.cat([widen(answer.object_score) for answer in clip]),
        torch.cat([widen(answer.mask[:, 0]) for answer in clip]),
    )

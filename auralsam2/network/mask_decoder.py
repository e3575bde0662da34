"""SAM2's mask decoder, prompted by sound. One frame at a time.

Source: SAM2's two-way transformer and mask heads; AuralSAM2's released behaviour for where the fuser's features enter:
in reverse order (stage 3 first), before each two-way block and once more before the final attention. No point tokens;
the dense prompt is `no_mask_embed`; three candidates always; candidates keep their logits whatever the object score.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import TwoWayAttentionBlock
from torch import Tensor

from auralsam2.network.precision import cast
from auralsam2.network.segment_anything import SegmentAnything

# Token order: object score, IoU, then four mask tokens. Sound is added to the mask tokens only.
NUM_TOKENS_BEFORE_MASKS = 2


class FrameMasks(NamedTuple):
    low_res_logits: Tensor
    """[1, 3, S/4, S/4]."""
    iou: Tensor
    """[1, 3], predicted IoU of each candidate, in [0, 1]."""
    object_score: Tensor
    """[1, 1], logit."""
    tokens: Tensor
    """[1, 3, C], the candidates' output tokens, from which object pointers are made."""


def dense_positions(sam: SegmentAnything) -> Tensor:
    """Compute [N, C] random-Fourier position of each image token; depends on weights and size only."""
    positions: Tensor = sam.sam_prompt_encoder.get_dense_pe()
    return cast(positions[0].flatten(1).T, sam.no_mem_embed.dtype)


def output_tokens(decoder: MaskDecoder) -> Tensor:
    """Stack [6, C]: object score, IoU, and the four masks."""
    return torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])


def _add_to_mask_tokens(tokens: Tensor, audio: Tensor) -> Tensor:
    return torch.cat([tokens[:, :NUM_TOKENS_BEFORE_MASKS], tokens[:, NUM_TOKENS_BEFORE_MASKS:] + audio], dim=1)


def _two_way_block(
    block: TwoWayAttentionBlock, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, Tensor] = block(queries=queries, keys=keys, query_pe=query_pe, key_pe=key_pe)
    return out


def _attend(
    sam: SegmentAnything, image: Tensor, visual: list[Tensor], audio: list[Tensor], image_pe: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens [1, 6, C] and image tokens [1, N, C] after the two-way transformer; `visual`, `audio` in stage order."""
    decoder = sam.sam_mask_decoder
    tokens = output_tokens(decoder)[None]
    keys, key_pe = image, image_pe[None]
    # Upstream adds the first audio feature in place to one tensor that serves as queries and as their position.
    queries = query_pe = _add_to_mask_tokens(tokens, audio[-1])
    keys = keys + visual[-1]
    first, second = decoder.transformer.layers
    queries, keys = _two_way_block(first, queries, keys, query_pe, key_pe)
    queries, keys = _add_to_mask_tokens(queries, audio[-2]), keys + visual[-2]
    queries, keys = _two_way_block(second, queries, keys, query_pe, key_pe)
    queries, keys = _add_to_mask_tokens(queries, audio[-3]), keys + visual[-3]
    last = decoder.transformer.final_attn_token_to_image
    queries = queries + last(q=queries + query_pe, k=keys + key_pe, v=keys)
    return decoder.transformer.norm_final_attn(queries), keys


def upscale(decoder: MaskDecoder, image: Tensor, high_res_s4: Tensor, high_res_s8: Tensor) -> Tensor:
    """Upscale to [B, C/8, S/4, S/4], whose pixels the masks weigh, image tokens [B, C, S/16, S/16] and the projected
    maps.
    """
    deconv_1, norm, act_1, deconv_2, act_2 = decoder.output_upscaling
    dtype = deconv_1.weight.dtype
    x = act_1(norm(deconv_1(cast(image, dtype)) + cast(high_res_s8, dtype)))
    enlarged: Tensor = act_2(deconv_2(x) + cast(high_res_s4, dtype))
    return enlarged


def masks_of(decoder: MaskDecoder, mask_tokens: Tensor, indices: Sequence[int], enlarged: Tensor) -> Tensor:
    """Weigh the pixels of `upscale`, [B, C/8, h, w], by mask tokens [B, 4, C] at `indices` -> logits [B, n, h, w]."""
    tokens, mlps = cast(mask_tokens, enlarged.dtype), decoder.output_hypernetworks_mlps
    kernels = torch.stack([mlps[i](tokens[:, i]) for i in indices], dim=1)
    logits: Tensor = (kernels @ enlarged.flatten(2)).unflatten(2, enlarged.shape[-2:])
    return logits


def decode(
    sam: SegmentAnything,
    image: Tensor,
    high_res: tuple[Tensor, Tensor],
    visual: list[Tensor],
    audio: list[Tensor],
    image_pe: Tensor,
) -> FrameMasks:
    """Decode the three candidate masks of one frame.

    Args:
        image: [N, C] image tokens, memory already read (or `no_mem_embed` added).
        high_res: the frame's projected FPN maps [1, C/8, S/4, S/4] and [1, C/4, S/8, S/8].
        visual, audio: the fuser's features of this frame, stage 1 to 3, each [N, C] and [1, C].
        image_pe: [N, C] from `dense_positions`.
    """
    decoder = sam.sam_mask_decoder
    image, image_pe = image + sam.sam_prompt_encoder.no_mask_embed.weight, cast(image_pe, image.dtype)
    tokens, keys = _attend(sam, image[None], visual, audio, image_pe)
    side = high_res[1].shape[-1] // 2
    enlarged = upscale(decoder, keys.transpose(1, 2).unflatten(2, (side, side)), *high_res)
    mask_tokens = tokens[:, NUM_TOKENS_BEFORE_MASKS:]
    # Candidate 0 of SAM2 serves single-mask prompts; sound always reads the three others.
    logits = masks_of(decoder, mask_tokens, (1, 2, 3), enlarged)
    iou = decoder.iou_prediction_head(tokens[:, 1])[:, 1:]
    return FrameMasks(logits, iou, decoder.pred_obj_score_head(tokens[:, 0]), mask_tokens[:, 1:])

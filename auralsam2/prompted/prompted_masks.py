"""SAM2's mask decoder, prompted by points, boxes and masks. Frames of one size, as many at once as one likes.

Changed against the sam2 package, with the same result: tokens that are marked absent are masked out of every attention
that would read them, so a prompt can have a fixed number of slots. Sound enters by `network.mask_decoder`, never here.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor

from auralsam2.network.mask_decoder import NUM_TOKENS_BEFORE_MASKS, masks_of, output_tokens, upscale
from auralsam2.network.precision import cast, numbers_on
from auralsam2.network.segment_anything import SegmentAnything

NUM_MASKS = 4
"""Mask 0 answers prompts that leave no doubt; 1 to 3 are the candidates of the others."""


class PromptedMasks(NamedTuple):
    """All that the decoder says, before SAM2's rules choose."""

    low_res_logits: Tensor
    """[B, 4, S/4, S/4]."""
    iou: Tensor
    """[B, 4]."""
    object_score: Tensor
    """[B, 1], logit."""
    tokens: Tensor
    """[B, 4, C]."""


def _attention(attention: Attention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """sam2's own attention, with a bias [B, 1, 1, keys] on the scores."""
    heads = attention.num_heads
    q, k, v = (
        project(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for project, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


def _block(
    block: TwoWayAttentionBlock, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    if block.skip_first_layer_pe:
        queries = _attention(block.self_attn, queries, queries, queries, bias)
    else:
        placed = queries + query_pe
        queries = queries + _attention(block.self_attn, placed, placed, queries, bias)
    queries = block.norm1(queries)
    read = _attention(block.cross_attn_token_to_image, queries + query_pe, keys + key_pe, keys, None)
    queries = block.norm2(queries + read)
    queries = block.norm3(queries + block.mlp(queries))
    read = _attention(block.cross_attn_image_to_token, keys + key_pe, queries + query_pe, queries, bias)
    return queries, block.norm4(keys + read)


def _bias(absent: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, 1, tokens] from [B, P]: minus infinity where a token is absent. The decoder's own are always there."""
    own = absent.new_zeros(absent.shape[0], NUM_TOKENS_BEFORE_MASKS + NUM_MASKS)
    missing = torch.cat([own, absent], dim=1)[:, None, None]
    return torch.where(missing, -torch.inf, numbers_on([0.0], absent.device, dtype))


def decode_prompted(
    sam: SegmentAnything,
    image: Tensor,
    high_res: tuple[Tensor, Tensor],
    sparse: Tensor,
    absent: Tensor | None,
    dense: Tensor,
    image_pe: Tensor,
) -> PromptedMasks:
    """Decode masks of B prompts.

    Args:
        image: [B, N, C] image tokens, memory already read (or `no_mem_embed` added).
        high_res: the frames' projected FPN maps [B, C/8, S/4, S/4] and [B, C/4, S/8, S/8].
        sparse: [B, P, C] tokens of the points; absent: [B, P] bool, or None where all are there.
        dense: [B, N, C] or [1, C], from a mask or `no_mask_embed`.
        image_pe: [N, C] from `dense_positions`.
    """
    decoder = sam.sam_mask_decoder
    own = output_tokens(decoder)[None].expand(sparse.shape[0], -1, -1)
    tokens = torch.cat([own, sparse], dim=1)
    bias = None if absent is None else _bias(absent, image.dtype)
    queries, keys, image_pe = tokens, image + dense, cast(image_pe, image.dtype)
    for block in decoder.transformer.layers:
        queries, keys = _block(block, queries, keys, tokens, image_pe, bias)
    last = decoder.transformer.final_attn_token_to_image
    queries = queries + _attention(last, queries + tokens, keys + image_pe, keys, None)
    queries = decoder.transformer.norm_final_attn(queries)
    side = high_res[1].shape[-1] // 2
    enlarged = upscale(decoder, keys.transpose(1, 2).unflatten(2, (side, side)), *high_res)
    mask_tokens = queries[:, NUM_TOKENS_BEFORE_MASKS : NUM_TOKENS_BEFORE_MASKS + NUM_MASKS]
    logits = masks_of(decoder, mask_tokens, range(NUM_MASKS), enlarged)
    return PromptedMasks(
        logits, decoder.iou_prediction_head(queries[:, 1]), decoder.pred_obj_score_head(queries[:, 0]), mask_tokens
    )

"""SAM2's memory: what a decoded frame leaves behind, and how a later frame reads it. Batch one, real-valued throughout.

Changed against the sam2 package, with the same result: rotary positions turn real pairs instead of complex numbers
(complex numbers do not export), and values are projected after the attention, not before: the rows of a softmax sum to
one, so softmax(Q K^T) (M W + b) = (softmax(Q K^T) M) W + b, and M is 64 wide where M W is 256.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor

from auralsam2.positions import rotate
from auralsam2.segment_anything import NUM_MEMORY_FRAMES, SegmentAnything
from kernels import operators

# SAM2's configuration: how the mask enters the memory encoder, and how much of the sine map is added to the queries.
MASK_SCALE, MASK_BIAS = 20.0, -10.0
INPUT_POSITION_WEIGHT = 0.1
MAX_OBJECT_POINTERS = 16


@dataclass(frozen=True)
class Positions:
    """The constants of one image size. N = (S/16)^2."""

    image: Tensor
    """[N, C] sine map of the image tokens."""
    memory: Tensor
    """[N, C_mem] sine map of the memory tokens."""
    cos: Tensor
    sin: Tensor
    """Rotary tables, each [N, C/2]."""


@dataclass(frozen=True)
class Remembered:
    """What one decoded frame leaves behind."""

    features: Tensor | None
    """[N, C_mem] spatial memory; None when no later frame reads it."""
    pointer: Tensor
    """[1, C] object pointer."""


@dataclass(frozen=True)
class MemoryReading:
    """The memory that one frame attends to: spatial tokens first, pointer tokens last."""

    tokens: Tensor
    """[R N + P, C_mem], R remembered frames, P pointer tokens. The values of the attention."""
    placed: Tensor
    """[R N + P, C_mem], what the keys are made of: the tokens plus their positions; pointers have none.

    Added frame by frame: positions of all the memory as one tensor would be a large constant for every reader.
    """
    num_pointer_tokens: int


def gather(
    sam: SegmentAnything, bank: dict[int, Remembered], frame: int, conditioning_frame: int, positions: Positions
) -> MemoryReading:
    """The memory of `frame`: the conditioning frame, then up to six frames before it, oldest first, then pointers.

    Pointers come from the past only: the conditioning frame's if it lies there, then the nearest first, 16 at most,
    each split into tokens as wide as the spatial memory, without a temporal encoding.
    """
    reach = [(conditioning_frame, NUM_MEMORY_FRAMES - 1)]
    for distance in range(NUM_MEMORY_FRAMES - 1, 0, -1):
        if frame - distance in bank and frame - distance != conditioning_frame:
            reach.append((frame - distance, distance - 1))
    tokens, placed = [], []
    for index, temporal in reach:
        features = bank[index].features
        assert features is not None, "a frame that is read later must run the memory encoder"
        tokens.append(features)
        placed.append(features + (positions.memory + sam.maskmem_tpos_enc[temporal, 0]))
    pointers = [bank[conditioning_frame].pointer] if conditioning_frame <= frame else []
    for distance in range(1, MAX_OBJECT_POINTERS):
        if frame - distance in bank and frame - distance != conditioning_frame:
            pointers.append(bank[frame - distance].pointer)
    num_pointer_tokens = 0
    if pointers:
        split = torch.cat(pointers).reshape(-1, positions.memory.shape[1])
        num_pointer_tokens = split.shape[0]
        tokens.append(split)
        placed.append(split)
    return MemoryReading(torch.cat(tokens), torch.cat(placed), num_pointer_tokens)


def _self_attention(attention: RoPEAttention, x: Tensor, positions: Positions) -> Tensor:
    q = rotate(attention.q_proj(x), positions.cos, positions.sin)
    k = rotate(attention.k_proj(x), positions.cos, positions.sin)
    mixed = F.scaled_dot_product_attention(q[None, None], k[None, None], attention.v_proj(x)[None, None])
    out: Tensor = attention.out_proj(mixed[0, 0])
    return out


def _cross_attention(attention: RoPEAttention, x: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    q = rotate(attention.q_proj(x), positions.cos, positions.sin)
    k = attention.k_proj(memory.placed)
    num_spatial = k.shape[0] - memory.num_pointer_tokens
    spatial = k[:num_spatial].unflatten(0, (-1, x.shape[0]))
    spatial = rotate(spatial, positions.cos, positions.sin).flatten(0, 1)
    k = torch.cat([spatial, k[num_spatial:]])
    read = F.scaled_dot_product_attention(q[None, None], k[None, None], memory.tokens[None, None])
    out: Tensor = attention.out_proj(attention.v_proj(read[0, 0]))
    return out


def _fused_cross_attention(attention: RoPEAttention, x: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    read = operators.memory_attention(
        attention.q_proj(x),
        attention.k_proj(memory.placed),
        memory.tokens,
        positions.cos,
        positions.sin,
        memory.num_pointer_tokens,
    )
    out: Tensor = attention.out_proj(attention.v_proj(read))
    return out


def _layer(layer: MemoryAttentionLayer, x: Tensor, memory: MemoryReading, positions: Positions, fused: bool) -> Tensor:
    cross_attention = _fused_cross_attention if fused else _cross_attention
    x = x + _self_attention(layer.self_attn, layer.norm1(x), positions)
    x = x + cross_attention(layer.cross_attn_image, layer.norm2(x), memory, positions)
    fed: Tensor = x + layer.linear2(F.relu(layer.linear1(layer.norm3(x))))
    return fed


def attend(sam: SegmentAnything, image: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    """Image tokens [N, C] that have read the memory, [N, C]."""
    x = image + INPUT_POSITION_WEIGHT * positions.image
    for layer in sam.memory_attention.layers:
        x = _layer(layer, x, memory, positions, sam.fused)
    out: Tensor = sam.memory_attention.norm(x)
    return out


def remember(sam: SegmentAnything, embedding: Tensor, mask_logits: Tensor) -> Tensor:
    """The spatial memory [N, C_mem] of a frame.

    Args:
        embedding: [1, C, S/16, S/16], the frame's own FPN map, before it read any memory.
        mask_logits: [1, 1, S/4, S/4], the candidate with the best predicted IoU.
    """
    encoder = sam.memory_encoder
    enlarged = F.interpolate(mask_logits, scale_factor=4.0, mode="bilinear", align_corners=False)
    mask = encoder.mask_downsampler(torch.sigmoid(enlarged) * MASK_SCALE + MASK_BIAS)
    features = encoder.out_proj(encoder.fuser(encoder.pix_feat_proj(embedding) + mask))
    tokens: Tensor = features[0].flatten(1).T
    return tokens

"""SAM2's memory: what a decoded frame leaves behind, and how a later frame reads it. Batch one, real-valued throughout.

Changed against the sam2 package, with the same result: rotary positions turn real pairs instead of complex numbers
(complex numbers do not export); values are projected after the attention, not before: the rows of a softmax sum to
one, so softmax(Q K^T) (M W + b) = (softmax(Q K^T) M) W + b, and M is 64 wide where M W is 256; and the keys of a frame
are projected once for all its readers, which differ by a temporal encoding e alone: (M + e) W = M W + e W.
`fold_values`, for inference, makes one product of the values' W and the output projection that follows it.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor, nn

from auralsam2.network.positions import rotate
from auralsam2.network.precision import cast, numbers_on
from auralsam2.network.segment_anything import NUM_MEMORY_FRAMES, SegmentAnything
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
    exchange: Tensor | None = None
    """Of `pair_exchange`, for graphs that rotate by a product; None: pairs are taken apart."""

    def rotate(self, x: Tensor) -> Tensor:
        """Turn features [..., N, C] by their rotary positions."""
        return rotate(x, self.cos, self.sin, self.exchange)


@dataclass(frozen=True)
class Remembered:
    """What one decoded frame leaves behind."""

    features: Tensor | None
    """[N, C_mem] spatial memory; None when no later frame reads it."""
    pointer: Tensor
    """[1, C] object pointer."""
    keys: dict[int, Tensor] = field(default_factory=dict)
    """[N, C] by layer, of features and sine map; filled by the first frame that reads them."""


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
    keys: Callable[[int], Tensor] | None = None
    """Of a layer, [R N + P, C]: what its projection makes of `placed`. None: that is yet to be computed."""
    absent: Tensor | None = None
    """[R N + P] bool: tokens that only fill a fixed shape and are not to be read; None where there are none."""


class Reach(NamedTuple):
    """Which frames one frame reads."""

    frames: list[tuple[int, int]]
    """Frame and row of the temporal encoding of each spatial memory."""
    pointers: list[int]
    """The frames whose object pointers are read."""


def reach(decoded: Container[int], frame: int, conditioning: Sequence[int], reverse: bool = False) -> Reach:
    """List what `frame` reads: the conditioning frames, then up to six frames before it, the farthest first.

    Pointers come from the past only: those of conditioning frames that lie there, then the nearest first, at most 15.

    Args:
        decoded: the frames that have a memory.
        reverse: the clip is gone through backwards, so that "before" means later in time.
    """
    step = 1 if reverse else -1

    def is_remembered(distance: int) -> bool:
        return frame + step * distance in decoded and frame + step * distance not in conditioning

    frames = [(index, NUM_MEMORY_FRAMES - 1) for index in conditioning]
    for distance in range(NUM_MEMORY_FRAMES - 1, 0, -1):
        if is_remembered(distance):
            frames.append((frame + step * distance, distance - 1))
    pointers = [index for index in conditioning if step * (index - frame) >= 0]
    pointers += [frame + step * distance for distance in range(1, MAX_OBJECT_POINTERS) if is_remembered(distance)]
    return Reach(frames, pointers)


def gather(
    sam: SegmentAnything,
    bank: Mapping[int, Remembered],
    frame: int,
    conditioning: Sequence[int],
    positions: Positions,
    reverse: bool = False,
) -> MemoryReading:
    """Gather the memory of `frame`, as `reach` names it: spatial tokens, then pointers, each split into tokens as wide
    as the spatial memory, without a temporal encoding.
    """
    frames, pointed = reach(bank, frame, conditioning, reverse)
    tokens, placed, pointers = [], [], list[Tensor]()
    for index, temporal in frames:
        features = bank[index].features
        assert features is not None, "a frame that is read later must run the memory encoder"
        tokens.append(features)
        placed.append(features + (cast(positions.memory, features.dtype) + sam.maskmem_tpos_enc[temporal, 0]))
    num_pointer_tokens = 0
    if pointed:
        split = torch.cat([bank[index].pointer for index in pointed]).reshape(-1, positions.memory.shape[1])
        num_pointer_tokens = split.shape[0]
        pointers.append(split)

    def keys(layer: int) -> Tensor:
        project = sam.memory_attention.layers[layer].cross_attn_image.k_proj
        parts = []
        for index, temporal in frames:
            kept, features = bank[index].keys, bank[index].features
            assert features is not None
            if layer not in kept:
                kept[layer] = project(features + cast(positions.memory, features.dtype))
            parts.append(kept[layer] + F.linear(sam.maskmem_tpos_enc[temporal, 0], project.weight))
        return torch.cat(parts + [project(split) for split in pointers])

    return MemoryReading(torch.cat(tokens + pointers), torch.cat(placed + pointers), num_pointer_tokens, keys)


def _self_attention(attention: RoPEAttention, x: Tensor, positions: Positions) -> Tensor:
    q, k = positions.rotate(attention.q_proj(x)), positions.rotate(attention.k_proj(x))
    mixed = F.scaled_dot_product_attention(q[None, None], k[None, None], attention.v_proj(x)[None, None])
    out: Tensor = attention.out_proj(mixed[0, 0])
    return out


def _cross_attention(
    attention: RoPEAttention, x: Tensor, k: Tensor, memory: MemoryReading, positions: Positions
) -> Tensor:
    q = positions.rotate(attention.q_proj(x))
    num_spatial = k.shape[0] - memory.num_pointer_tokens
    spatial = positions.rotate(k[:num_spatial].unflatten(0, (-1, x.shape[0]))).flatten(0, 1)
    k = torch.cat([spatial, k[num_spatial:]])
    bias = None
    if memory.absent is not None:
        bias = torch.where(memory.absent, -torch.inf, numbers_on([0.0], q.device, q.dtype))[None, None, None]
    read = F.scaled_dot_product_attention(q[None, None], k[None, None], memory.tokens[None, None], attn_mask=bias)
    out: Tensor = attention.out_proj(attention.v_proj(read[0, 0]))
    return out


def _fused_cross_attention(
    attention: RoPEAttention, x: Tensor, k: Tensor, memory: MemoryReading, positions: Positions
) -> Tensor:
    read = operators.memory_attention(
        attention.q_proj(x),
        k,
        memory.tokens,
        positions.cos,
        positions.sin,
        memory.num_pointer_tokens,
    )
    out: Tensor = attention.out_proj(attention.v_proj(read))
    return out


def fold_values(sam: SegmentAnything) -> None:
    """Project values and output in one product, in place and for good: (A x V + v) W + w = A x (V W) + (v W + w)."""
    for layer in sam.memory_attention.layers:
        for attention in (layer.self_attn, layer.cross_attn_image):
            value, out = attention.v_proj, attention.out_proj
            inner, outer = value.weight.detach().double(), out.weight.detach().double()
            folded = nn.Linear(value.in_features, out.out_features).to(value.weight).requires_grad_(False)
            folded.weight.copy_(outer @ inner)
            folded.bias.copy_(outer @ value.bias.detach().double() + out.bias.detach().double())
            attention.v_proj, attention.out_proj = nn.Identity(), folded


def _look_around(layer: MemoryAttentionLayer, x: Tensor, positions: Positions) -> Tensor:
    return x + _self_attention(layer.self_attn, layer.norm1(x), positions)


def _look_back(
    layer: MemoryAttentionLayer, x: Tensor, k: Tensor, memory: MemoryReading, positions: Positions, fused: bool
) -> Tensor:
    # The fused operator reads everything, and takes pairs apart by itself.
    fused = fused and memory.absent is None and positions.exchange is None
    cross_attention = _fused_cross_attention if fused else _cross_attention
    x = x + cross_attention(layer.cross_attn_image, layer.norm2(x), k, memory, positions)
    fed: Tensor = x + layer.linear2(F.relu(layer.linear1(layer.norm3(x))))
    return fed


def prepare(sam: SegmentAnything, image: Tensor, positions: Positions) -> Tensor:
    """Compute what `attend` makes of image tokens [N, C] before it reads any memory, whatever that is, [N, C]."""
    placed = image + cast(INPUT_POSITION_WEIGHT * positions.image, image.dtype)
    return _look_around(sam.memory_attention.layers[0], placed, positions)


def attend_prepared(sam: SegmentAnything, x: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    """Attend, as `attend` does, with tokens [N, C] of `prepare`."""
    for index, layer in enumerate(sam.memory_attention.layers):
        if index:
            x = _look_around(layer, x, positions)
        k = layer.cross_attn_image.k_proj(memory.placed) if memory.keys is None else memory.keys(index)
        x = _look_back(layer, x, k, memory, positions, sam.fused)
    out: Tensor = sam.memory_attention.norm(x)
    return out


def attend(sam: SegmentAnything, image: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    """Image tokens [N, C] that have read the memory, [N, C]."""
    return attend_prepared(sam, prepare(sam, image, positions), memory, positions)


def remember(sam: SegmentAnything, embedding: Tensor, mask_logits: Tensor) -> Tensor:
    """Encode the spatial memory [N, C_mem] of a frame.

    Args:
        embedding: [1, C, S/16, S/16], the frame's own FPN map, before it read any memory.
        mask_logits: [1, 1, S/4, S/4], the candidate with the best predicted IoU, also where no object is there.
    """
    return remember_mask(sam, embedding, harden(enlarge(mask_logits)))


def harden(mask_logits: Tensor) -> Tensor:
    """Turn logits into a mask of zeros and ones, float, same shape: 1 where the logit is above 0.

    The released code marks every frame as if it were clicked, so SAM2 binarises its mask for the memory, in training
    too. There is no gradient through it, and one unit in the last place can flip a pixel.
    """
    # Chosen, not cast: in a graph for TensorRT a comparison does nothing else.
    return torch.where(mask_logits > 0, 1.0, 0.0).to(mask_logits.dtype)


def enlarge(mask_logits: Tensor) -> Tensor:
    """Enlarge [1, 1, S/4, S/4] to [1, 1, S, S]."""
    return F.interpolate(mask_logits, scale_factor=4.0, mode="bilinear", align_corners=False)


def remember_mask(sam: SegmentAnything, embedding: Tensor, mask: Tensor) -> Tensor:
    """Encode as `remember`, from a mask [1, 1, S, S] in [0, 1]; in the dtype of `embedding`."""
    encoder = sam.memory_encoder
    dtype = encoder.pix_feat_proj.weight.dtype
    mask = encoder.mask_downsampler(cast(mask, dtype) * MASK_SCALE + MASK_BIAS)
    features = encoder.out_proj(encoder.fuser(encoder.pix_feat_proj(cast(embedding, dtype)) + mask))
    return cast(features[0].flatten(1).T, embedding.dtype)

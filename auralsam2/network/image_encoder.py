"""Frames to the feature pyramid: SAM2's Hiera trunk and FPN neck.

The interpolated position embedding depends on weights and size only. `position_embedding` computes it once, so that a
graph can hold it as a constant: left as an operator, some engines fold it with slow reference code at every start.
"""

from collections.abc import Callable

import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck
from torch import Tensor

from auralsam2.network.precision import cast, numbers_on
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.windowed_trunk import windowed_features

# ImageNet statistics of RGB in [0, 1], as SAM2 was trained with.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
PATCH_STRIDE = 4

AfterLayer = Callable[[int, Tensor], Tensor]
"""Number of a layer and its output [T, ..., C], whose tokens may lie in any order -> what the next one reads."""


def normalise(frames: Tensor) -> Tensor:
    """Normalise [T, S, S, 3] uint8 RGB -> [T, 3, S, S] float32, ImageNet mean removed, divided by the standard
    deviation.
    """
    mean, std = numbers_on(IMAGE_MEAN, frames.device), numbers_on(IMAGE_STD, frames.device)
    return ((frames.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def position_embedding(trunk: Hiera, image_size: int) -> Tensor:
    """Compute [1, S/4, S/4, C] float32: the background embedding, resized, plus the window embedding, tiled."""
    side = image_size // PATCH_STRIDE
    embedding: Tensor = trunk._get_pos_embed((side, side))
    return embedding


def trunk_features(
    trunk: Hiera,
    frames: Tensor,
    position: Tensor,
    *,
    windowed: bool = False,
    strips: int = 1,
    after_layer: AfterLayer | None = None,
) -> list[Tensor]:
    """Compute the outputs of Hiera's four stages, [T, C_i, h_i, w_i] at strides 4, 8, 16, 32.

    Args:
        frames: [T, 3, S, S] float32, normalised.
        position: [1, S/4, S/4, C] of `position_embedding`.
        windowed: in `windowed_trunk`'s order of tokens, for CPUs: it saves the arithmetic of padding. False: as SAM2
            does it, for GPUs, where more and smaller launches cost what they save.
        strips: of the windowed form, the parts in which its leading blocks run.
        after_layer: what is done to each layer's output; None: nothing.
    """
    if windowed:
        return windowed_features(trunk, frames, position, strips=strips, after_layer=after_layer)
    dtype = trunk.patch_embed.proj.weight.dtype
    x = trunk.patch_embed(cast(frames, dtype)) + cast(position, dtype)
    outputs = []
    for index, block in enumerate(trunk.blocks):
        x = block(x)
        if after_layer is not None:
            x = after_layer(index, x)
        if index in trunk.stage_ends:
            outputs.append(x.permute(0, 3, 1, 2))
    return outputs


def image_embedding(neck: FpnNeck, features: list[Tensor]) -> Tensor:
    """Compute FPN level 2 at stride 16, the only level with a top-down path: lateral plus twice enlarged level 3."""
    top = neck.convs[0](features[3])
    enlarged = F.interpolate(top, scale_factor=2.0, mode="nearest")
    embedding: Tensor = neck.convs[1](features[2]) + enlarged
    return embedding


def pyramid(
    sam: SegmentAnything, frames: Tensor, position: Tensor, after_layer: AfterLayer | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute FPN maps of normalised frames [T, 3, S, S]: [T, C, h, w] at strides 4, 8 and 16."""
    neck = sam.image_encoder.neck
    features = trunk_features(sam.image_encoder.trunk, frames, position, after_layer=after_layer)
    return neck.convs[3](features[0]), neck.convs[2](features[1]), image_embedding(neck, features)

"""A mask that a person gave for a frame, in numpy: SAM2 takes it as its answer, through the frame's size and back."""

from typing import NamedTuple

import numpy as np

from auralsam2_client.contract import MASK_STRIDE

from ..engine import Array

# The answer's logits are -10 outside and 10 inside.
MASK_SCALE, MASK_BIAS = np.float32(20), np.float32(-10)


class GivenMask(NamedTuple):
    logits: Array
    """[S/4, S/4]: the answer of this frame."""
    dense: Array
    """[S/4, S/4]: the prompt from which the frame's object pointer is made."""
    empty: bool


def _resizing(found: int, wanted: int) -> Array:
    """[wanted, found] weights of a bilinear resize that averages where it makes smaller (antialias)."""
    scale = found / wanted
    reach = max(scale, 1.0)
    centre = (np.arange(wanted) + 0.5) * scale
    distance = np.abs((np.arange(found) + 0.5)[None] - centre[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def given_mask(mask: Array, weight: Array, bias: Array) -> GivenMask:
    """Answer and prompt of a mask.

    Args:
        mask: [S/4, S/4], above 0 inside.
        weight, bias: [4, 4] and [1] of the network's `mask_downsample`, a convolution with stride 4.
    """
    side = mask.shape[0]
    up, down = _resizing(side, MASK_STRIDE * side), _resizing(MASK_STRIDE * side, side)
    # Sums of multiples of 1/64: exact, so that a pixel on the threshold falls as it does in PyTorch.
    hard = ((up @ (mask > 0).astype(np.float32) @ up.T) >= 0.5).astype(np.float32)
    logits = down @ (hard * MASK_SCALE + MASK_BIAS) @ down.T
    cells = hard.reshape(side, MASK_STRIDE, side, MASK_STRIDE)
    dense = np.einsum("ysxt,st->yx", cells, weight) + bias
    return GivenMask(logits, np.asarray(dense, np.float32), not hard.any())

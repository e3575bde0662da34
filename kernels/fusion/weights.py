"""The weights of one fusion, folded: what a fused operator reads, and nothing else.

Sound is aligned first, then projected: both maps are linear, so their product is folded. Batch norm follows the way
back to full width with fixed statistics, so it is folded into it.
"""

from typing import NamedTuple

from torch import Tensor

NORM_EPS = 1e-5
"""Of both layer norms; PyTorch's default, which the released checkpoints were trained with."""


class FusionWeights(NamedTuple):
    """C is the width of the tokens, d the inner width. All of one dtype, matrices [out, in]."""

    visual_in: Tensor
    """[3 d, C]: queries, keys, values of the frames."""
    visual_in_bias: Tensor
    sound_in: Tensor
    """[C + 3 d, C]: the aligned tokens themselves, then their queries, keys, values."""
    sound_in_bias: Tensor
    frame_out: Tensor
    """[C, d]."""
    frame_out_bias: Tensor
    frame_norm: Tensor
    """[C], scale of the layer norm."""
    frame_norm_bias: Tensor
    sound_out: Tensor
    """[C, d]."""
    sound_out_bias: Tensor
    sound_norm: Tensor
    sound_norm_bias: Tensor

    @property
    def width(self) -> int:
        return self.frame_out.shape[0]

    @property
    def inner(self) -> int:
        return self.frame_out.shape[1]

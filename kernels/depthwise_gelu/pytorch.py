"""The reference in PyTorch: what `auralsam2.network.pvt` computes between its two linear layers. A CPU runs it."""

import torch.nn.functional as F
from torch import Tensor


def depthwise_gelu(hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    """Compute the exact GELU of a 3 x 3 convolution of each feature by itself, zeros around the map.

    Args:
        hidden: [T, side * side, F], pixels row by row, any float dtype.
        weight: [F, 1, 3, 3]; bias: [F], both of the dtype of `hidden`.
    Returns: [T, side * side, F], dtype of `hidden`.
    """
    image = hidden.transpose(1, 2).unflatten(2, (side, side))
    mixed = F.conv2d(image, weight, bias, padding=1, groups=hidden.shape[2])
    return F.gelu(mixed.flatten(2).transpose(1, 2))

"""Position encodings: sine maps for images, and the rotary tables of memory attention in real-valued form.

They depend on sizes only, so they are computed once when the network is built and are constants in every graph.
Sources: SAM2's PositionEmbeddingSine (normalised, temperature 10000) and its axial rotary encoding (theta 10000).
"""

import math

import torch
from torch import Tensor

from auralsam2.network.precision import cast

TEMPERATURE = 10000.0
NORMALISE_EPS = 1e-6
EXCHANGE_BLOCK = 16


def sine_2d(width: int, side: int) -> Tensor:
    """Compute [width, side, side] float32: the first half of the channels encodes y, the second x."""
    half = width // 2
    steps = torch.arange(1, side + 1, dtype=torch.float32)
    steps = steps / (steps[-1] + NORMALISE_EPS) * (2 * math.pi)
    frequency = TEMPERATURE ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)
    angle = steps[:, None] / frequency
    line = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1).T  # [half, side]
    return torch.cat([line[:, :, None].expand(-1, -1, side), line[:, None, :].expand(-1, side, -1)])


def first_position_1d(width: int) -> Tensor:
    """Compute [width] float32: the sine encoding of position 0, that is 0, 1, 0, 1, ... as the released fuser adds to
    sound.
    """
    return torch.arange(width, dtype=torch.float32) % 2


def rotary_tables(width: int, side: int) -> tuple[Tensor, Tensor]:
    """Compute cos and sin, each [side * side, width / 2] float32: the first half of the pairs turns with x, the rest
    with y.
    """
    frequency = 1.0 / TEMPERATURE ** (torch.arange(0, width, 4)[: width // 4].float() / width)
    token = torch.arange(side * side, dtype=torch.float32)
    x, y = token % side, torch.div(token, side, rounding_mode="floor")
    angle = torch.cat([torch.outer(x, frequency), torch.outer(y, frequency)], dim=1)
    return angle.cos(), angle.sin()


def pair_exchange(width: int) -> Tensor:
    """Build [B, B] float32: a row times this matrix has the two of each pair (a, b) exchanged and one turned, (-b, a).

    B divides `width`. A block of 16 was the fastest on a CPU with AVX2.
    """
    block = math.gcd(width, EXCHANGE_BLOCK)
    first = torch.arange(0, block, 2)
    exchange = torch.zeros(block, block)
    exchange[first + 1, first], exchange[first, first + 1] = -1.0, 1.0
    return exchange


def rotate(x: Tensor, cos: Tensor, sin: Tensor, exchange: Tensor | None = None) -> Tensor:
    """Turn each pair (x[2i], x[2i+1]) of `x` [..., N, width] by the table's angle; equal to SAM2's complex product.

    Args:
        cos, sin: float32 also where `x` is narrower; the product is then float32 too, and cast back.
        exchange: of `pair_exchange`: pairs are exchanged by a product with it and not taken apart, for engines whose
            splits and joins are slower than a small product.
    Returns: in the dtype of `x`.
    """
    if exchange is None:
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return cast(torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2), x.dtype)
    exchanged = (x.reshape(-1, exchange.shape[0]) @ cast(exchange, x.dtype)).reshape(x.shape)
    return cast(x * _for_both(cos) + exchanged * _for_both(sin), x.dtype)


def _for_both(table: Tensor) -> Tensor:
    """[N, width] from [N, width / 2]: the angle of a pair, for each of the two."""
    return table[..., None].expand(*table.shape, 2).flatten(-2)

"""Memory cross-attention in PyTorch: the reference of the Triton kernels, and what runs without them.

Maths   softmax(R(Q) R(K)^T / sqrt(C)) M; R rotates pairs of features by a table, row n of the keys by its row n mod Nq
Source  SAM2's memory attention (rotary positions repeated for each remembered frame, none for object pointers), with
        values as narrow as the memory: they are projected after the attention.
Dtypes  any float. Rotary positions are computed in float32, or in float64 for float64, and rounded to the dtype of the
        query: queries and keys of another type than the values would keep PyTorch from its fused attention.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.launching.errors import KernelError


def memory_attention(query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int) -> Tensor:
    """Read the memory: each query's mean of the values, weighed by softmax(R(Q) R(K)^T / sqrt(C)).

    Args:
        query: [Nq, C], projected, without rotary positions.
        key: [Nk, C], projected, without rotary positions; the memory of one frame after another, Nq rows each, then
            `num_unrotated` object pointer tokens, which have no place in the image.
        value: [Nk, Dv], the memory tokens.
        cos, sin: [Nq, C / 2], rotary tables.
    Returns: [Nq, Dv], dtype of query.
    Raises: KernelError when shapes or dtypes do not agree.
    """
    check_agreement(query, key, value, cos, sin, num_unrotated)
    num_queries, width = query.shape
    num_rotated = key.shape[0] - num_unrotated
    spatial = key[:num_rotated].unflatten(0, (num_rotated // num_queries, num_queries))
    rotated = torch.cat([_rotate(spatial, cos, sin).flatten(0, 1), key[num_rotated:]])
    mixed = F.scaled_dot_product_attention(
        _rotate(query, cos, sin)[None, None], rotated[None, None], value[None, None], scale=1 / math.sqrt(width)
    )
    return mixed[0, 0]


def check_agreement(query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int) -> None:
    """Raise KernelError unless the tensors are one attention's: the same widths, counts and dtype."""
    shapes = (
        f"query {list(query.shape)} {query.dtype}, key {list(key.shape)} {key.dtype}, "
        f"value {list(value.shape)} {value.dtype}, cos {list(cos.shape)}, sin {list(sin.shape)}"
    )
    if any(tensor.dim() != 2 for tensor in (query, key, value, cos, sin)):
        raise KernelError(f"{shapes}; each must have two dimensions: one head of one frame at a time.")
    if not query.dtype == key.dtype == value.dtype or not query.dtype.is_floating_point:
        raise KernelError(f"{shapes}; query, key and value must share one float dtype.")
    if query.shape[1] != key.shape[1] or key.shape[0] != value.shape[0]:
        raise KernelError(f"{shapes}; key must be as wide as query and have as many rows as value.")
    num_queries, width = query.shape
    if cos.shape != sin.shape or cos.shape[0] != num_queries or 2 * cos.shape[1] != width:
        raise KernelError(f"{shapes}; cos and sin must be [{num_queries}, {width} / 2], a row for each query.")
    check_counts(num_queries, key.shape[0], num_unrotated)


def check_counts(num_queries: int, num_keys: int, num_unrotated: int) -> None:
    """Raise KernelError unless the keys are whole frames of `num_queries` rows, then `num_unrotated` rows."""
    if num_queries < 1 or num_keys < 1:
        raise KernelError(f"{num_queries} queries and {num_keys} keys; there must be at least one of each.")
    if not 0 <= num_unrotated <= num_keys:
        raise KernelError(f"num_unrotated = {num_unrotated}; must be 0 to {num_keys}, the number of keys.")
    if (num_keys - num_unrotated) % num_queries:
        raise KernelError(
            f"{num_keys - num_unrotated} keys have rotary positions; must be a multiple of {num_queries}, the number "
            "of queries: the memory of whole frames."
        )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[2i], x[2i+1]) of `x` [..., N, C] by the angle in the tables [N, C / 2]."""
    wide = torch.promote_types(x.dtype, torch.float32)
    even, odd = x.to(wide).unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(x.dtype)

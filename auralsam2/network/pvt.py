"""PVTv2 blocks as AuralFuser uses them, for maps (with spatial reduction) and for the audio tokens of a clip (without).

Source: Wang et al. 2022 (PVTv2). The audio side has the same parameters; its spatial reduction and its depth-wise
convolution are in the released checkpoints but take no part in the computation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import operators

MLP_RATIO = 4
SPATIAL_REDUCTION = 4


class Attention(nn.Module):
    dropout: float
    """Of attention weights and of the output, in training mode."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.num_heads = num_heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.sr = nn.Conv2d(width, width, SPATIAL_REDUCTION, stride=SPATIAL_REDUCTION)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, side: int | None) -> Tensor:
        """Attend over x [B, N, C]; with `side`, keys and values come from its map side x side, reduced four times each
        way.
        """
        source = x
        if side is not None:
            image = x.transpose(1, 2).unflatten(2, (side, side))
            source = self.norm(self.sr(image).flatten(2).transpose(1, 2))
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(source).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2))
        return F.dropout(mixed, dropout) if dropout else mixed


class DepthWise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        image: Tensor = self.dwconv(x.transpose(1, 2).unflatten(2, (side, side)))
        return image.flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    dropout: float
    """Of the hidden layer and of the output, in training mode."""
    fused: bool
    """Depth-wise convolution and GELU as one operator, without a gradient."""
    by_frame: bool
    """Maps pass one after another, so that the hidden one, four times as wide, stays in a CPU's cache."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.fused = self.by_frame = False
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.dwconv = DepthWise(MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor, side: int | None) -> Tensor:
        if self.by_frame and side is not None:
            return torch.cat([self._mix(frame, side) for frame in x.split(1)])
        return self._mix(x, side)

    def _mix(self, x: Tensor, side: int | None) -> Tensor:
        hidden = self.fc1(x)
        if side is None:
            hidden = F.gelu(hidden)
        elif self.fused:
            convolution = self.dwconv.dwconv
            hidden = operators.depthwise_gelu(hidden, convolution.weight, convolution.bias, side)
        else:
            hidden = F.gelu(self.dwconv(hidden, side))
        if self.training and self.dropout:
            return F.dropout(self.fc2(F.dropout(hidden, self.dropout)), self.dropout)
        out: Tensor = self.fc2(hidden)
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, side: int | None = None) -> Tensor:
        """Transform x [B, N, C]. `side`: N is a map side x side (visual); None: N are tokens without places (audio)."""
        x = x + self.attn(self.norm1(x), side)
        mixed: Tensor = x + self.mlp(self.norm2(x), side)
        return mixed

"""Hiera's trunk with less work and the same result: tokens lie window by window, and padding is never computed.

SAM2's blocks lay out windows again in each block, pad the map until windows divide it, and project what they padded: at
512 px with windows of 14 the 32 x 32 map becomes 42 x 42, 72 % more tokens in every projection. Here the tokens of a
stage are put in the order of its windows once; norms, projections and MLPs do not ask for an order, and neither does
global attention. Exact, because

- a padded token is zero after the norm, so its key and value are the projection's bias. All p of a window are equal,
  and p equal keys weigh as one whose score is greater by log(p): exp(s + log p) = p exp(s);
- queries of padded tokens are cropped by SAM2 and never read;
- windows that are cut by the map's border have even sides, so pooling never crosses into padding.

Source: sam2.modeling.backbones.hieradet, on the same modules and weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from torch import Tensor

from auralsam2.network.precision import cast, numbers_on


@dataclass(frozen=True)
class Group:
    """Windows of one shape, beside each other in the order of tokens."""

    count: int
    height: int
    width: int
    padding: int
    """Padded tokens that each of these windows has in SAM2."""

    @property
    def tokens(self) -> int:
        return self.height * self.width

    def pool(self) -> "Group":
        """After queries were pooled 2 x 2."""
        assert self.height % 2 == self.width % 2 == 0
        return Group(self.count, self.height // 2, self.width // 2, self.padding // 4)


@dataclass(frozen=True)
class WindowOrder:
    """The order of the tokens of a side x side map in windows of `window`: whole windows first, then those cut by the
    right border, by the lower border, and by both.
    """

    side: int
    window: int

    @property
    def groups(self) -> tuple[Group, ...]:
        whole, rest = divmod(self.side, self.window)
        full = self.window**2
        shapes = (
            (whole * whole, self.window, self.window),
            (whole, self.window, rest),
            (whole, rest, self.window),
            (1, rest, rest),
        )
        return tuple(Group(n, h, w, full - h * w) for n, h, w in shapes if n and h and w)

    def of_map(self, x: Tensor) -> Tensor:
        """Sort [B, side, side, C] -> [B, side^2, C] in this order. Cut and transposed: a graph has no indices of it."""
        extents = [extent for extent in (self.side // self.window * self.window, self.side % self.window) if extent]
        parts = [part for row in x.split(extents, dim=1) for part in row.split(extents, dim=2)]
        return _joined([self._windows(part) for part in parts], dim=1)

    def _windows(self, part: Tensor) -> Tensor:
        height, width = (min(self.window, extent) for extent in part.shape[1:3])
        split = part.unflatten(2, (-1, width)).unflatten(1, (-1, height))
        windows: Tensor = split.transpose(2, 3).flatten(1, 4)
        return windows

    def to_map(self, x: Tensor) -> Tensor:
        """Sort back [B, side^2, C] -> [B, side, side, C]."""
        whole = self.side // self.window
        parts = x.split([group.count * group.tokens for group in self.groups], dim=1)
        maps = []
        for part, group in zip(parts, self.groups, strict=True):
            across = whole if group.width == self.window else 1
            split = part.reshape(x.shape[0], -1, across, group.height, group.width, x.shape[2])
            maps.append(split.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        per_row = 1 if self.side % self.window == 0 or whole == 0 else 2
        rows = [_joined(maps[start : start + per_row], dim=2) for start in range(0, len(maps), per_row)]
        return _joined(rows, dim=1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _pool(x: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """[B, N, C] in the order of `groups` -> [B, N / 4, C], the largest of each 2 x 2."""
    pooled = []
    for part, group in zip(x.split([g.count * g.tokens for g in groups], dim=1), groups, strict=True):
        square = part.reshape(-1, group.height // 2, 2, group.width // 2, 2, x.shape[2])
        rows = torch.maximum(square[:, :, 0], square[:, :, 1])  # [B n, h/2, w/2, 2, C]
        largest = torch.maximum(rows[:, :, :, 0], rows[:, :, :, 1])
        pooled.append(largest.reshape(x.shape[0], -1, x.shape[2]))
    return _joined(pooled, dim=1)


def _heads(x: Tensor, group: Group, num_heads: int) -> Tensor:
    """[B, n tokens, C] -> [B n, heads, tokens, C / heads]."""
    return x.reshape(-1, group.tokens, num_heads, x.shape[2] // num_heads).transpose(1, 2)


def _attention(block: MultiScaleBlock, x: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """The attention of one block; its queries are pooled where the block begins a stage."""
    attention = block.attn
    width, num_heads = attention.dim_out, attention.num_heads
    weights, biases = attention.qkv.weight.split(width), attention.qkv.bias.split(width)
    q, k, v = (F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
    queries = groups
    if attention.q_pool:
        q = _pool(q, groups)
        queries = tuple(group.pool() for group in groups)
    sizes = [group.count * group.tokens for group in groups]
    parts = zip(
        groups,
        queries,
        q.split([group.count * group.tokens for group in queries], dim=1),
        k.split(sizes, dim=1),
        v.split(sizes, dim=1),
        strict=True,
    )
    mixed = []
    for group, asked, of_q, of_k, of_v in parts:
        keys, values = _heads(of_k, group, num_heads), _heads(of_v, group, num_heads)
        mask = None
        if group.padding:
            padded = (keys.shape[0], num_heads, 1, keys.shape[3])
            keys = torch.cat([keys, biases[1].reshape(1, num_heads, 1, -1).expand(padded)], dim=2)
            values = torch.cat([values, biases[2].reshape(1, num_heads, 1, -1).expand(padded)], dim=2)
            own = torch.full((1, group.tokens), 0.0, dtype=x.dtype, device=x.device)
            mask = torch.cat([own, numbers_on([math.log(group.padding)], x.device, x.dtype)[None]], dim=1)
        out = F.scaled_dot_product_attention(_heads(of_q, asked, num_heads), keys, values, attn_mask=mask)
        mixed.append(out.transpose(1, 2).reshape(x.shape[0], -1, width))
    projected: Tensor = attention.proj(_joined(mixed, dim=1))
    return projected


def _block(block: MultiScaleBlock, x: Tensor, groups: tuple[Group, ...]) -> Tensor:
    normed = block.norm1(x)
    shortcut = x if block.dim == block.dim_out else block.proj(normed)
    if block.q_stride:
        shortcut = _pool(shortcut, groups)
    x = shortcut + _attention(block, normed, groups)
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


@dataclass(frozen=True)
class Step:
    """One block: the order in which its tokens come and go, None for row by row, and its windows."""

    block: MultiScaleBlock
    before: WindowOrder | None
    groups: tuple[Group, ...]
    after: WindowOrder | None
    side: int
    """Of the map that the block gives."""

    @property
    def side_before(self) -> int:
        return self.side * (2 if self.block.q_stride else 1)


def plan(trunk: Hiera, side: int) -> list[Step]:
    """Plan the trunk's blocks for a map of side x side patches. A block with windows takes tokens in their order; one
    that attends globally takes any, and leaves it as it is.
    """
    steps: list[Step] = []
    order: WindowOrder | None = None
    for block in trunk.blocks:
        before = WindowOrder(side, block.window_size) if block.window_size else order
        groups: tuple[Group, ...] = (Group(1, side, side, 0),)
        if block.window_size:
            assert before is not None
            groups = before.groups
        order = before
        if block.q_stride:
            assert block.window_size, "a block that pools its queries has windows"
            side //= 2
            order = WindowOrder(side, block.window_size // 2)
        steps.append(Step(block, before, groups, order, side))
    return steps


def num_apart(steps: list[Step]) -> int:
    """Count how many leading blocks may run on some of the windows at a time: none is cut, and none needs another
    order.
    """
    count = 0
    order = steps[0].before
    for step in steps:
        if not step.block.window_size or len(step.groups) > 1 or step.before != order:
            break
        count, order = count + 1, step.after
    return count


def windowed_features(
    trunk: Hiera,
    frames: Tensor,
    position: Tensor,
    *,
    strips: int = 1,
    after_layer: Callable[[int, Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Compute, as `image_encoder.trunk_features` does, the four stages' outputs, [T, C_i, h_i, w_i] at
    strides 4 to 32.

    Args:
        strips: the leading blocks, whose windows know nothing of each other, take the windows in this many parts, one
            after another, so that what passes between two operators stays in a CPU's cache. 1: all at once.
        after_layer: as for `image_encoder.trunk_features`.
    """
    dtype = trunk.patch_embed.proj.weight.dtype
    frames, position = cast(frames, dtype), cast(position, dtype)
    steps = plan(trunk, position.shape[1])
    order = steps[0].before
    x = _in_order((trunk.patch_embed(frames) + position).flatten(1, 2), None, order, position.shape[1])
    leading, rest = steps[: num_apart(steps)], steps[num_apart(steps) :]
    (group,) = leading[0].groups
    sizes = [len(part) * group.tokens for part in np.array_split(np.arange(group.count), strips)]
    of_strips = [_through(leading, strip, order, after_layer) for strip in x.split(sizes, dim=1)]
    results = {
        index: torch.cat(parts, dim=1)
        for index, parts in enumerate(zip(*of_strips, strict=True))
        if index in trunk.stage_ends or index == len(leading) - 1
    }
    following = _through(rest, results[len(leading) - 1], leading[-1].after, after_layer, len(leading))
    results |= dict(enumerate(following, start=len(leading)))
    return [_as_map(results[index], steps[index].after, steps[index].side) for index in trunk.stage_ends]


def _through(
    steps: list[Step],
    x: Tensor,
    order: WindowOrder | None,
    after_layer: Callable[[int, Tensor], Tensor] | None,
    first: int = 0,
) -> list[Tensor]:
    """What each block of `steps`, counted from `first`, gives for x [B, N, C], which comes in `order`."""
    results = []
    for index, step in enumerate(steps, first):
        x = _in_order(x, order, step.before, step.side_before)
        groups = step.groups
        if len(groups) == 1:
            # A strip has some of the windows only.
            groups = (replace(groups[0], count=x.shape[1] // groups[0].tokens),)
        x, order = _block(step.block, x, groups), step.after
        if after_layer is not None:
            x = after_layer(index, x)
        results.append(x)
    return results


def _in_order(x: Tensor, order: WindowOrder | None, wanted: WindowOrder | None, side: int) -> Tensor:
    """Tokens [B, side^2, C] from one order into another."""
    if order == wanted:
        return x
    rows = x.unflatten(1, (side, side)) if order is None else order.to_map(x)
    return rows.flatten(1, 2) if wanted is None else wanted.of_map(rows)


def _as_map(x: Tensor, order: WindowOrder | None, side: int) -> Tensor:
    """[B, N, C] -> [B, C, side, side], row by row again."""
    channels: Tensor = _in_order(x, order, None, side).transpose(1, 2).unflatten(2, (side, side))
    return channels

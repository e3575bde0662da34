"""Calls of the fused operators, drawn so that a small error shows, and how far an answer may be from float64.

Allowed: 1e-5 of the largest element in float32; in half precision twice the error of PyTorch in that type, or one
rounding of the largest element if that is more.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from kernels import operators
from kernels.depthwise_gelu.pytorch import depthwise_gelu
from kernels.fusion.reference import FusionForm, fuse_plainly
from kernels.fusion.weights import FusionWeights
from kernels.memory_attention.pytorch import memory_attention

Answer = tuple[Tensor, ...]
FLOAT32_SHARE = 1e-5


class Sample(Protocol):
    """One call: its tensors, what our operator answers, what PyTorch does in the same type, and in float64."""

    def to(self, device: str) -> Self: ...
    def ours(self) -> Answer: ...
    def plainly(self) -> Answer: ...
    def truth(self) -> Answer: ...
    def one_percent_off(self) -> Self: ...


def error(found: Tensor, truth: Tensor) -> float:
    """Return the largest absolute error."""
    return float((found.double() - truth).abs().max())


def excess(found: Answer, sample: Sample) -> float:
    """Return the largest error of an answer, as a multiple of what is allowed.

    Raises: AssertionError for another shape or type, or an element that is not finite.
    """
    worst = 0.0
    for ours, theirs, truth in zip(found, sample.plainly(), sample.truth(), strict=True):
        assert ours.shape == truth.shape, f"shape {list(ours.shape)}, not {list(truth.shape)}"
        assert ours.dtype == theirs.dtype, f"type {ours.dtype}, not {theirs.dtype}"
        assert ours.isfinite().all(), f"{int((~ours.isfinite()).sum())} elements are not finite"
        largest = float(truth.abs().max())
        if ours.dtype == torch.float32:
            allowed = FLOAT32_SHARE * largest
        else:
            # Where PyTorch itself overflows it is no measure.
            by_pytorch = error(theirs, truth) if theirs.isfinite().all() else 0.0
            allowed = max(2 * by_pytorch, torch.finfo(ours.dtype).eps / 2 * largest)
        worst = max(worst, error(ours, truth) / allowed)
    return worst


@dataclass(frozen=True)
class FusionSample:
    visual: Tensor
    audio: Tensor
    weights: FusionWeights
    form: FusionForm

    def to(self, device: str) -> "FusionSample":
        weights = FusionWeights(*(weight.to(device) for weight in self.weights))
        return FusionSample(self.visual.to(device), self.audio.to(device), weights, self.form)

    def ours(self) -> Answer:
        frame, sound = operators.audio_visual_fusion(self.visual, self.audio, *self.weights, self.form)
        return frame, sound

    def plainly(self) -> Answer:
        return fuse_plainly(self.visual, self.audio, self.weights, self.form)

    def truth(self) -> tuple[Tensor, Tensor]:
        """Compute in float64, from the very numbers that the sample holds."""
        weights = FusionWeights(*(weight.double() for weight in self.weights))
        return fuse_plainly(self.visual.double(), self.audio.double(), weights, self.form)

    def one_percent_off(self) -> "FusionSample":
        return replace(self, weights=self.weights._replace(frame_out=self.weights.frame_out * 1.01))

    def tensors(self) -> dict[str, Tensor]:
        return {"visual": self.visual, "audio": self.audio, **self.weights._asdict()}


def draw_fusion(
    num_frames: int,
    num_pixels: int,
    num_tokens: int,
    form: FusionForm = "released",
    dtype: torch.dtype = torch.float32,
    width: int = 256,
    inner: int = 128,
    seed: int = 0,
    magnitude: float = 1.0,
) -> FusionSample:
    """Draw a fusion under whose weights sound weighs as much as the picture."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw) * scale).to(dtype)

    def matrix(out: int, into: int, scale: float = 1.0) -> Tensor:
        return normal(out, into, scale=scale * into**-0.5)

    # The released form divides by N: without this gain sound would be lost beside the residual.
    gain = num_frames * num_pixels / inner if form == "released" else 4.0
    weights = FusionWeights(
        matrix(3 * inner, width),
        normal(3 * inner),
        matrix(width + 3 * inner, width),
        normal(width + 3 * inner),
        matrix(width, inner, gain),
        normal(width),
        (1 + normal(width, scale=0.1)).to(dtype),
        normal(width),
        matrix(width, inner, 1.0),
        normal(width),
        (1 + normal(width, scale=0.1)).to(dtype),
        normal(width),
    )
    visual, audio = (normal(*shape, width, scale=magnitude) for shape in ((num_frames, num_pixels), (num_tokens,)))
    return FusionSample(visual, audio, weights, form)


@dataclass(frozen=True)
class AttentionSample:
    query: Tensor
    key: Tensor
    value: Tensor
    cos: Tensor
    sin: Tensor
    num_unrotated: int

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value, self.cos, self.sin

    def to(self, device: str) -> "AttentionSample":
        query, key, value, cos, sin = (tensor.to(device) for tensor in self.tensors())
        return AttentionSample(query, key, value, cos, sin, self.num_unrotated)

    def ours(self) -> Answer:
        return (operators.memory_attention(*self.tensors(), self.num_unrotated),)

    def plainly(self) -> Answer:
        return (memory_attention(*self.tensors(), self.num_unrotated),)

    def truth(self) -> Answer:
        query, key, value, cos, sin = (tensor.double() for tensor in self.tensors())
        return (memory_attention(query, key, value, cos, sin, self.num_unrotated),)

    def one_percent_off(self) -> "AttentionSample":
        return replace(self, query=self.query * 1.01)


def draw_attention(
    num_queries: int,
    frames: int,
    pointers: int,
    width: int,
    value_width: int,
    dtype: torch.dtype,
    magnitude: float = 1.5,
    seed: int = 0,
) -> AttentionSample:
    """Draw a reading of the memory, whose logits have a standard deviation of magnitude squared."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    num_keys = frames * num_queries + pointers
    angle = torch.rand(num_queries, width // 2, generator=draw) * 6.3
    return AttentionSample(
        (normal(num_queries, width) * magnitude).to(dtype),
        (normal(num_keys, width) * magnitude).to(dtype),
        normal(num_keys, value_width).to(dtype),
        angle.cos(),
        angle.sin(),
        pointers,
    )


@dataclass(frozen=True)
class DepthwiseSample:
    hidden: Tensor
    weight: Tensor
    bias: Tensor
    side: int

    def to(self, device: str) -> "DepthwiseSample":
        return DepthwiseSample(self.hidden.to(device), self.weight.to(device), self.bias.to(device), self.side)

    def ours(self) -> Answer:
        return (operators.depthwise_gelu(self.hidden, self.weight, self.bias, self.side),)

    def plainly(self) -> Answer:
        return (depthwise_gelu(self.hidden, self.weight, self.bias, self.side),)

    def truth(self) -> Answer:
        return (depthwise_gelu(self.hidden.double(), self.weight.double(), self.bias.double(), self.side),)

    def one_percent_off(self) -> "DepthwiseSample":
        return replace(self, weight=self.weight * 1.01)


def draw_depthwise(
    num_frames: int, side: int, features: int, dtype: torch.dtype, scale: float = 1.0
) -> DepthwiseSample:
    """Draw a depth-wise convolution."""
    draw = torch.Generator().manual_seed(num_frames + 10 * side + 1000 * features)
    hidden = torch.randn(num_frames, side * side, features, generator=draw) * scale
    weight, bias = torch.randn(features, 1, 3, 3, generator=draw) / 3, torch.randn(features, generator=draw)
    return DepthwiseSample(hidden.to(dtype), weight.to(dtype), bias.to(dtype), side)

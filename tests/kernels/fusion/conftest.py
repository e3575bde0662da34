"""Fusions to compare: weights under which sound weighs as much as the picture, so that a small error shows."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kernels.fusion.reference import FusionForm, fuse_plainly
from kernels.fusion.weights import FusionWeights

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    visual: Tensor
    audio: Tensor
    weights: FusionWeights
    form: FusionForm

    def truth(self) -> Pair:
        """In float64, from the very numbers that the case holds."""
        weights = FusionWeights(*(weight.double() for weight in self.weights))
        return fuse_plainly(self.visual.double(), self.audio.double(), weights, self.form)

    def tensors(self) -> dict[str, Tensor]:
        return {"visual": self.visual, "audio": self.audio, **self.weights._asdict()}


def relative_error(found: Pair, truth: Pair) -> list[float]:
    """Of both outputs: the largest error as a share of the largest element."""
    return [
        float((ours.double() - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(found, truth, strict=True)
    ]


@pytest.fixture
def errors() -> Callable[[Pair, Pair], list[float]]:
    return relative_error


@pytest.fixture
def fusion_case() -> Callable[..., Case]:
    def make(
        num_frames: int,
        num_pixels: int,
        num_tokens: int,
        form: FusionForm = "released",
        dtype: torch.dtype = torch.float32,
        width: int = 256,
        inner: int = 128,
        seed: int = 0,
        magnitude: float = 1.0,
    ) -> Case:
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
        return Case(
            normal(num_frames, num_pixels, width, scale=magnitude),
            normal(num_tokens, width, scale=magnitude),
            weights,
            form,
        )

    return make

"""Fusions to compare: weights under which sound weighs as much as the picture, so that a small error shows."""

from collections.abc import Callable

import pytest
from torch import Tensor

from loadtests.gpu.checks.samples import FusionSample, draw_fusion

Pair = tuple[Tensor, Tensor]


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
def fusion_case() -> Callable[..., FusionSample]:
    return draw_fusion

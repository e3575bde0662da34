"""The memory of a card, for the loop over frames that tracks prompts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Array
from .captured import from_numpy


class CardArrays:
    """Tensors of one device; see `stage_runtime.prompts.arrays.Arrays`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def zeros(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(tuple(shape), device=self._device)

    def put(self, values: Array | Tensor) -> Tensor:
        return (values if isinstance(values, Tensor) else from_numpy(values)).to(self._device)

    def own(self, values: Tensor) -> Tensor:
        return values.clone()

    def to_host(self, values: Tensor) -> Array:
        copied: Array = values.to("cpu", torch.float32, copy=True).numpy()
        return copied

    def as_bfloat16(self, values: Tensor) -> Tensor:
        return values.to(torch.bfloat16).to(torch.float32)

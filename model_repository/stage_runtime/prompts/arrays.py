"""Where the loop over frames keeps what is large: features, memories, tokens. Small things are numpy's everywhere."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..engine import Array


class Arrays(Protocol):
    """Of one kind of memory. What it makes, the engines of that memory take as it is."""

    def zeros(self, shape: Sequence[int]) -> Any:
        """Make a float32 array of zeros there."""

    def put(self, values: Any) -> Any:
        """Bring an array there; one that is there already stays as it is."""

    def own(self, values: Any) -> Any:
        """Copy an engine's answer, which is valid until its next call only."""

    def to_host(self, values: Any) -> Array:
        """Copy an engine's answer to a numpy array."""

    def as_bfloat16(self, values: Any) -> Any:
        """Copy, rounded to the nearest bfloat16, ties to even; float32 still."""


class HostArrays:
    """The memory of the CPU, as numpy has it."""

    def zeros(self, shape: Sequence[int]) -> Array:
        return np.zeros(shape, np.float32)

    def put(self, values: Array) -> Array:
        return values

    def own(self, values: Array) -> Array:
        return values.copy()

    def to_host(self, values: Array) -> Array:
        return values.copy()

    def as_bfloat16(self, values: Array) -> Array:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded & np.uint32(0xFFFF0000)).view(np.float32)

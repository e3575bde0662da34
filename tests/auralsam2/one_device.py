"""Watches that operators meet tensors of one device only, where no card is: on PyTorch's `meta`, which has no values.

A tensor that was made on the host and never moved is a second device, whatever the first is called.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ELSEWHERE = torch.device("meta")
# What moves data from one device to another.
_MOVES = ("aten._to_copy", "aten.copy_")


class OneDevice(TorchDispatchMode):
    """Fails at the first operator, of the backward pass too, that mixes devices; a single number may lie anywhere."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch is not typed here
        self.num_operators = 0
        """Seen with tensors elsewhere than on the host."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor) and value.ndim]
        devices = {value.device for value in given}
        self.num_operators += ELSEWHERE in devices
        if not str(func).startswith(_MOVES):
            assert len(devices) < 2, f"{func} meets {[(value.device.type, list(value.shape)) for value in given]}"
        return func(*args, **(kwargs or {}))

"""Tensors between PyTorch and the server: on a card they stay there (DLPack), on a CPU numpy has them."""

from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .device.captured import from_numpy


def write_tensor(name: str, value: Any) -> Any:
    """Make the server's tensor of an array, or of a tensor, whose work has to be done."""
    if not isinstance(value, Tensor):
        return pb_utils.Tensor(name, value)
    if value.device.type == "cpu":
        return pb_utils.Tensor(name, np.ascontiguousarray(value.numpy()))
    # PyTorch exports what lies on the current card alone, and each thread has a current card of its own.
    with torch.cuda.device(value.device):
        return pb_utils.Tensor.from_dlpack(name, value.contiguous().__dlpack__())


def read_tensor(tensor: Any) -> Any:
    """Read the server's tensor: numpy's where it is in the host's memory, else PyTorch's, on its card."""
    return tensor.as_numpy() if tensor.is_cpu() else from_dlpack(tensor.to_dlpack())


def take_tensor(tensor: Any, device: torch.device) -> Tensor:
    """Copy the server's tensor to a device, to be kept."""
    value = read_tensor(tensor)
    held: Tensor = value if isinstance(value, Tensor) else from_numpy(value)
    taken = held.to(device, copy=True)
    if device.type == "cuda":
        # From one card to another place on it, a copy is only begun; the server takes back what is read.
        torch.cuda.current_stream(device).synchronize()
    return taken

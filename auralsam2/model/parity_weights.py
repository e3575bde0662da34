"""Deterministic weights: every tensor is a pure function of its key, its shape and a seed.

They stand in where no trained weights can be had. The golden figures of the published network were computed on them, so
a parity check ships outputs only. Every matrix has the scale 1 / sqrt(fan-in), also those of the decoder's attention
between tokens and image, so no softmax decides by a rounding error. Masks made with them mean nothing.
"""

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn

_EMBEDDINGS = ("pos_embed", "tpos", "token", "positional_encoding")


def _is_embedding(key: str) -> bool:
    if "embed" in key.rsplit(".", 1)[-1]:
        return True
    return any(word in key for word in _EMBEDDINGS) and not key.endswith("_proj.weight")


def parity_tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw the float32 tensor of `shape` at `key`. The arithmetic is float32, so any NumPy gives these bits."""
    draw = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0x7FFFFFFF)
    noise = draw.standard_normal(shape).astype(np.float32)
    if key.endswith("running_var"):
        value = np.float32(0.5) + np.abs(noise)
    elif key.endswith("running_mean"):
        value = np.float32(0.1) * noise
    elif len(shape) >= 2:
        scale = 0.5 if _is_embedding(key) else 1 / math.sqrt(math.prod(shape[1:]))
        value = noise * np.float32(scale)
    elif len(shape) == 1:
        value = np.float32(0.1) * noise
        if key.endswith("weight"):
            value += np.float32(1)
    else:
        value = np.float32(0.5) * noise
    return torch.from_numpy(np.asarray(value, np.float32)).reshape(shape)


def parity_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Make a state dict for `module`: parity weights at every floating-point entry, integer counters unchanged."""
    return {
        key: parity_tensor(key, tuple(value.shape), seed) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }

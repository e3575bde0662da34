"""Deterministic weights: every tensor is a pure function of its key, its shape and a seed.

They stand in where no trained weights can be had. The golden figures of the published network were computed on them,
so a parity check needs to ship outputs only. Masks made with them mean nothing.
"""

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_EMBEDDINGS = ("pos_embed", "tpos", "token", "positional_encoding")


def parity_tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The float32 tensor of `shape` that belongs at `key`."""
    draw = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0x7FFFFFFF)
    noise = draw.standard_normal(shape).astype(np.float32)
    leaf = key.rsplit(".", 1)[-1]
    value: NDArray[np.floating]
    embedding = "embed" in leaf or any(word in key for word in _EMBEDDINGS)
    if leaf == "running_var":
        value = 0.5 + np.abs(noise)
    elif leaf == "running_mean":
        value = 0.1 * noise
    elif len(shape) == 1:
        value = 0.1 * noise + (1 if leaf == "weight" else 0)
    elif len(shape) >= 2 and not embedding:
        value = noise / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.5 * noise
    return torch.from_numpy(np.asarray(value, np.float32)).reshape(shape)


def parity_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A state dict for `module`: parity weights at every floating-point entry, integer counters unchanged."""
    return {
        key: parity_tensor(key, tuple(value.shape), seed) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


def stand_in_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """`parity_state`, with the projections of the decoder's `*token_to_image*` and `*image_to_token*` well scaled.

    The recipe takes every key with "token" in it for an embedding and gives these matrices sixteen times their due. The
    attention then decides by single rounding errors, at 512 px on a third of the pixels: of no use as a stand-in.
    """
    state = parity_state(module, seed)
    for key, value in state.items():
        if "_proj.weight" in key and "token" in key:
            state[key] = parity_tensor(key, tuple(value.shape), seed) * (2 / float(np.sqrt(value.shape[1])))
    return state

"""A network in float16 or bfloat16: what takes the narrow type, what stays float32, and where one meets the other.

The network takes frames and log-mel in float32 and answers in float32. Inside, the memory encoder and the mask side of
the decoder (`output_upscaling`, `output_hypernetworks_mlps`) cast what they read to the type of their own weights, so
that they may be put back with `.float()` after `to_precision`.

Stays float32                             | because
rotary tables                             | angles up to 64 radians; `rotate` casts its result back
log-mel                                   | a logarithm of sums of squares
the trunk's position embedding            | it is resized, once a network
the decoder's random-Fourier positions    | sines of up to 2 pi times a matrix
statistics of batch norms                 | trained ones pass the end of float16; `fuse()` folds them away
variances of norms over channels of maps  | the square of what is over 256 passes the end of float16

On a card PyTorch computes float32 convolutions in TF32 unless `torch.backends.cudnn.allow_tf32` is off; log-mel is one.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.position_encoding import PositionEmbeddingRandom
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralsam2.errors import NetworkError
from auralsam2.network.fusion import AudioVisualFusion
from auralsam2.network.log_mel import LogMel

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROTARY_TABLES = frozenset({"rotary_cos", "rotary_sin", "cos", "sin"})
"""Names of buffers, of the network and of modules that hold its positions."""
TRUNK_POSITIONS = frozenset({"pos_embed", "pos_embed_window"})
WIDE_MODULES = (LogMel, PositionEmbeddingRandom, _BatchNorm)

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Give `x` in `dtype`; a tensor that has it already leaves no trace in a graph."""
    return x if x.dtype == dtype else x.to(dtype)


def widen(x: Tensor) -> Tensor:
    """Give `x` in float32 at least: what a caller reads."""
    return cast(x, torch.promote_types(x.dtype, torch.float32))


def numbers_on(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make [len(values)], filled in on the device: a tensor made of numbers is copied there from the host.

    A graph folds it to the same numbers.
    """
    return torch.cat([torch.full((1,), value, dtype=dtype, device=device) for value in values])


class WideNorm2d(LayerNorm2d):  # type: ignore[misc]  # sam2 is untyped
    """SAM2's norm over the channels of a map, computed in float32 whatever goes in and out."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, h, w], in the dtype of `x`."""
        return cast(super().forward(widen(x)), x.dtype)


def to_precision(module: AnyModule, dtype: torch.dtype) -> AnyModule:
    """Turn a network, or a module made of parts of one, to `dtype` for inference, in place and for good.

    Last of all: operators are fused, laterals and values folded in the weights' own precision.

    Args:
        module: AuralSAM2, or any module that holds parts of one.
        dtype: float16 | bfloat16; float32 changes nothing.
    Returns: the module. It takes frames and log-mel in float32, and answers in float32.
    Raises: NetworkError for another dtype, for float16 where the fusion was not fused, and for a weight that float16
        cannot hold. Nothing was changed then.
    """
    if dtype not in PRECISIONS.values():
        raise NetworkError(f"precision {dtype}; a network runs in {', '.join(PRECISIONS)}.")
    if dtype == torch.float32:
        return module
    _check(module, dtype)
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is LayerNorm2d:
                setattr(part, name, _wide_norm(child))
    for owner, name in _narrow(module):
        tensor = getattr(owner, name)
        if isinstance(tensor, nn.Parameter):
            tensor.data = tensor.data.to(dtype)
        else:
            setattr(owner, name, tensor.to(dtype))
    return module


def _narrow(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every parameter and buffer that takes the narrow type, as its owner and its name there."""
    wide = {part for kept in module.modules() if isinstance(kept, WIDE_MODULES) for part in kept.modules()}
    for part in module.modules():
        if part in wide:
            continue
        names = [*dict(part.named_parameters(recurse=False)), *dict(part.named_buffers(recurse=False))]
        for name in names:
            kept = name in ROTARY_TABLES or (isinstance(part, Hiera) and name in TRUNK_POSITIONS)
            if not kept and getattr(part, name).is_floating_point():
                yield part, name


def _wide_norm(norm: nn.Module) -> WideNorm2d:
    wide = WideNorm2d(norm.get_parameter("weight").shape[0], norm.eps)
    wide.weight, wide.bias = norm.get_parameter("weight"), norm.get_parameter("bias")
    wide.train(norm.training)
    return wide


def _check(module: nn.Module, dtype: torch.dtype) -> None:
    if dtype != torch.float16:
        return
    if any(isinstance(part, AudioVisualFusion) for part in module.modules()):
        raise NetworkError("float16 and the plain fusion: its sums over all pixels pass 65504. Call fuse() first.")
    limit = torch.finfo(dtype).max
    for owner, name in _narrow(module):
        tensor = getattr(owner, name).detach()
        largest = 0.0 if tensor.is_meta or not tensor.numel() else float(tensor.abs().max())
        if largest > limit:
            raise NetworkError(
                f"{type(owner).__name__}.{name} holds {largest:.3g}; float16 ends at {limit:.0f}. Use bfloat16."
            )

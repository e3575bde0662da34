"""A stand-in card: runs a forward pass on tensors that are not on the host, and names what would stop its capture.

PyTorch's `meta` device plays the card: its tensors have a place, a type and a shape and hold no numbers, so no machine
needs a card to tell where a tensor of the host meets one of the card. Watched are tensors of the host, whatever becomes
of them, tensors that the host makes from numbers (they are copied to the card), and numbers that the host reads back
(it waits for the card).
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = "meta"
ROOMS = ("auralsam2", "kernels", "export", "model_repository")
ROOT = Path(__file__).resolve().parents[2]
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy)
WAITING = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal")


class _Watch(TorchDispatchMode):
    """Notes every operator that touches the host, with the line of ours that called it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.faults: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        on_host = any(isinstance(leaf, Tensor) and leaf.device.type != CARD for leaf in leaves)
        if on_host or func.name().startswith(WAITING):
            self.faults.append(f"{_caller()}: {func.name()}")
        return out


class _Makers(TorchFunctionMode):
    """Notes every tensor that is made of numbers; on `meta` no operator shows it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.faults = faults

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in MAKERS:
            self.faults.append(f"{_caller()}: torch.{func.__name__}")
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "outside"


def faults_of(forward: Callable[..., Any], *inputs: Any) -> list[str]:
    """Run `forward(*inputs)` and list what of it touched the host, place and operator; nothing where all is well."""
    watch = _Watch()
    with torch.no_grad(), watch, _Makers(watch.faults):
        forward(*inputs)
    return watch.faults


def on_card(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Make a tensor of the card."""
    return torch.empty(tuple(shape), dtype=dtype, device=CARD)


def move_to_card(module: nn.Module) -> nn.Module:
    """Do what `module.cuda()` does, in place: move its parameters and buffers."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            moved = on_card(parameter.shape, parameter.dtype)
            part._parameters[name] = nn.Parameter(moved, requires_grad=False)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = on_card(buffer.shape, buffer.dtype)
        if isinstance(part, RoPEAttention):
            # Not a buffer: sam2 moves its table with the first call, and keeps it there.
            part.freqs_cis = on_card(part.freqs_cis.shape, part.freqs_cis.dtype)
    return module

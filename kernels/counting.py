"""What eager PyTorch costs a GPU: arithmetic, bytes moved and kernel launches of a callable, operator by operator.

It runs the callable once, on meta tensors too (then production sizes cost nothing), and looks at every operator. The
bytes are a floor for one kernel an operator: each distinct input is read once, each output written once. Where PyTorch
could do either, the count takes what favours eager:

- Attention is one kernel that never writes its scores, and writes its output token by token.
- A convolution with its bias is one kernel; one fed channels-last answers channels-last, as cuDNN does.
- No product or convolution is charged for a copy of an input whose layout its library cannot take.

Arithmetic is that of PyTorch's own formulas for products, convolutions and attention (2 a multiply-add), nothing for
copies, and 1 an output element for every other operator.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop

_ATEN = torch.ops.aten
_FREE = {
    _ATEN._unsafe_view,
    _ATEN.empty,
    _ATEN.empty_like,
    _ATEN.empty_strided,
    _ATEN.lift_fresh,
    _ATEN.new_empty,
    _ATEN.new_empty_strided,
}
"""Beside views: operators that touch no element."""
_COPIES = {_ATEN._to_copy, _ATEN.cat, _ATEN.clone, _ATEN.copy_, _ATEN.fill_, _ATEN.stack, _ATEN.zero_}
_OVERWRITES = {_ATEN.copy_, _ATEN.fill_, _ATEN.zero_}
"""In place, but what was there is not read."""
_GATHERS = {_ATEN.embedding, _ATEN.gather, _ATEN.index, _ATEN.index_select}
"""They read no more of their largest input than they write."""


@dataclass(frozen=True)
class Call:
    """One operator as it ran, or the sum of several."""

    operator: str
    flop: int
    bytes: int
    launches: int = 1


@dataclass(frozen=True)
class Counted:
    """Every operator that launches a kernel, in order."""

    calls: tuple[Call, ...]

    @property
    def flop(self) -> int:
        return sum(call.flop for call in self.calls)

    @property
    def bytes(self) -> int:
        return sum(call.bytes for call in self.calls)

    @property
    def launches(self) -> int:
        return len(self.calls)

    @property
    def by_operator(self) -> Mapping[str, Call]:
        """Sums by operator, the one that moves most first."""
        sums: dict[str, Call] = {}
        for call in self.calls:
            so_far = sums.get(call.operator, Call(call.operator, 0, 0, 0))
            sums[call.operator] = Call(
                call.operator, so_far.flop + call.flop, so_far.bytes + call.bytes, so_far.launches + 1
            )
        return dict(sorted(sums.items(), key=lambda item: -item[1].bytes))


def count_operators(function: Callable[..., Any], *arguments: Any) -> Counted:
    """Run `function(*arguments)` in inference mode and count what it would cost a GPU, on whatever device it runs."""
    mode = _Counting()
    with torch.inference_mode(), mode:
        function(*arguments)
    return Counted(tuple(mode.calls))


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet is _ATEN.scaled_dot_product_attention:
            # Heads lie beside each other in a token, as the fused kernels write them.
            out = _token_major(func(*args, **kwargs))
            flop = sdpa_flop(*args[:3], out_val=out)
            return self.record(func, out, flop, args, kwargs)
        # Inference mode hands over composite operators whole (linear, reshape); their parts are what runs.
        with self:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        if func.is_view or packet in _FREE or torch.Tag.inplace_view in func.tags:
            return out
        if packet is _ATEN.convolution and _is_channels_last(args[0]):
            out = out.contiguous(memory_format=torch.channels_last)
        if packet in flop_registry:
            flop = flop_registry[packet](*args, **kwargs, out_val=out)
        else:
            flop = 0 if packet in _COPIES else next(_tensors([out])).numel()
        return self.record(func, out, flop, args, kwargs)

    def record(self, func: Any, out: Any, flop: int, args: Any, kwargs: Any) -> Any:
        packet = func._overloadpacket
        written = {_place(tensor): tensor for tensor in _tensors([out])}
        read: dict[object, Tensor] = {}
        for position, argument in enumerate(func._schema.arguments):
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors([value]):
                if is_written:
                    written[_place(tensor)] = tensor
                if not (argument.is_out or (is_written and packet in _OVERWRITES)):
                    read[_place(tensor)] = tensor
        bytes_written = sum(map(_distinct_bytes, written.values()))
        sizes = sorted(map(_distinct_bytes, read.values()))
        if packet in _GATHERS:
            sizes[-1] = min(sizes[-1], bytes_written)
        self.calls.append(Call(str(packet).removeprefix("aten."), flop, sum(sizes) + bytes_written))
        return out


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _axes(tensor: Tensor) -> list[tuple[int, int]]:
    """(stride, size) of the axes along which memory changes, in the order of memory."""
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    return sorted((stride, size) for stride, size in axes if size != 1 and stride != 0)


def _place(tensor: Tensor) -> object:
    """The same for every view of the same elements."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.dtype, tuple(_axes(tensor))


def _distinct_bytes(tensor: Tensor) -> int:
    """Bytes of memory behind a view. What `expand` repeats counts once."""
    if tensor.numel() == 0:
        return 0
    count = tensor.itemsize
    for _, size in _axes(tensor):
        count *= size
    return min(count, tensor.untyped_storage().nbytes())


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _token_major(heads: Tensor) -> Tensor:
    """[B, heads, N, d], laid out as [B, N, heads, d]."""
    return heads.transpose(1, 2).contiguous().transpose(1, 2)

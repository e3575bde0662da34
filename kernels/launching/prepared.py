"""Launches prepared once a shape: what of a call does not depend on its numbers is worked out at the first one.

A call that makes its plan, its arguments and Triton's own choice of a compiled kernel again spends more time on the
host than its kernels take on a card. `call` keeps them by operator, device, shapes and types. What these do not say is
looked at in every call: kernels are compiled for pointers to multiples of 16 bytes, and a tensor that starts elsewhere
takes Triton's own way, which compiles another one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kernels.launching.launch import Launch, Plan, check_inputs

MAX_PREPARED = 256
"""Shapes of all operators together; the text of a clip may be of any length."""
ALIGNMENT_BYTES = 16
"""Of Triton's specialisation on pointers."""


class PreparedLaunch:
    """One launch: its kernel, grid and arguments, all but the tensors, which it finds by their places in a list."""

    def __init__(self, launch: Launch, places: Mapping[str, int]) -> None:
        self.name, self._grid = launch.name, launch.grid
        self._by_triton = launch.kernel[launch.grid]
        self._tensors = {parameter: places[name] for parameter, name in {**launch.inputs, **launch.outputs}.items()}
        self._numbers = {**launch.integers, **launch.constants}
        self._options = {
            "num_warps": launch.num_warps,
            "num_stages": launch.num_stages,
            "enable_fp_fusion": True,  # said, because the compiler's own default changes with its next version
        }
        order = list(launch.kernel.arg_names)
        self._arguments = [self._numbers.get(parameter) for parameter in order]
        self._slots = [(order.index(parameter), place) for parameter, place in self._tensors.items()]
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, held: Sequence[Tensor], aligned: bool) -> None:
        """Launch on the current stream. `aligned`: every tensor starts at a multiple of ALIGNMENT_BYTES."""
        if aligned and self._compiled is not None:
            arguments = self._arguments.copy()
            for slot, place in self._slots:
                arguments[slot] = held[place]
            self._compiled(*arguments)
            return
        tensors = {parameter: held[place] for parameter, place in self._tensors.items()}
        compiled = self._by_triton(**tensors, **self._numbers, **self._options)
        # The interpreter compiles nothing.
        if aligned and compiled is not None:
            self._compiled = compiled[self._grid]


class Prepared:
    """A plan with nothing left to work out."""

    def __init__(self, plan: Plan) -> None:
        made = [name for name in plan.buffers if name not in plan.inputs]
        places = {name: place for place, name in enumerate([*plan.inputs, *made])}
        self._made = [(plan.buffers[name].shape, plan.buffers[name].dtype) for name in made]
        self._outputs = [places[name] for name in plan.outputs]
        self.launches = [PreparedLaunch(launch, places) for launch in plan.launches]

    def __call__(self, inputs: Sequence[Tensor], empty: Callable[..., Tensor] = torch.empty) -> tuple[Tensor, ...]:
        """Launch every kernel on the inputs' device, on its current stream.

        Args:
            inputs: in the plan's order, contiguous, of the plan's shapes and types, all on one device.
            empty: makes scratch and outputs; tests hand in one that fills them with NaN.
        Returns: the outputs, in the plan's order.
        """
        device, held = inputs[0].device, list(inputs)
        with torch.cuda.device_of(inputs[0]):
            held += [empty(shape, dtype=dtype, device=device) for shape, dtype in self._made]
            aligned = all(tensor.data_ptr() % ALIGNMENT_BYTES == 0 for tensor in held)
            for launch in self.launches:
                launch(held, aligned)
        return tuple(held[place] for place in self._outputs)


def run(plan: Plan, tensors: Mapping[str, Tensor], empty: Callable[..., Tensor] = torch.empty) -> tuple[Tensor, ...]:
    """Launch every kernel of `plan` once, on inputs by name; checked first, nothing is kept."""
    check_inputs(plan, tensors)
    return Prepared(plan)([tensors[name] for name in plan.inputs], empty)


Spec = tuple[torch.Size, torch.dtype]


@lru_cache(maxsize=MAX_PREPARED)
def prepare(
    plan_of: Callable[..., Plan], device: torch.device, specs: tuple[Spec, ...], arguments: tuple[Any, ...]
) -> Prepared:
    """Make and check the plan of one operator for inputs of these shapes and types, once."""
    stand_ins = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in specs]
    plan = plan_of(device, *stand_ins, *arguments)
    check_inputs(plan, dict(zip(plan.inputs, stand_ins, strict=True)))
    return Prepared(plan)


def call(plan_of: Callable[..., Plan], inputs: Sequence[Tensor], *arguments: Any) -> tuple[Tensor, ...]:
    """Run an operator on inputs of any layout.

    Args:
        plan_of: from the device, the inputs (only their shapes and types count) and the arguments to the plan.
    Raises: what `plan_of` raises for sizes and types without a kernel.
    """
    inputs = [tensor.contiguous() for tensor in inputs]
    specs = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
    return prepare(plan_of, inputs[0].device, specs, arguments)(inputs)

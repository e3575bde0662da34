"""A function of tensors as one CUDA graph: what it reads, writes and needs in between lies where it lay at capture."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

WARM_UPS = 3
"""Before the capture: libraries choose their algorithms, kernels and compiled code are loaded."""
Answer = TypeVar("Answer")


class Captured(Generic[Answer]):
    """One call of a function, kept for replay. On a CPU there is no graph: each replay calls the function.

    Args:
        function: of `inputs`; without synchronisation, copies from the host and allocations outside PyTorch.
        inputs: tensors on the device. They are kept: `load` writes others into them.
    Raises: what the function does; torch.AcceleratorError where it did what a graph cannot hold.
    """

    def __init__(self, function: Callable[..., Answer], inputs: Sequence[Tensor]) -> None:
        self._function, self._inputs = function, tuple(inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode():
            if any(tensor.is_cuda for tensor in self._inputs):
                self._capture()
            else:
                self.answer = function(*self._inputs)

    def _capture(self) -> None:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.answer = self._function(*self._inputs)

    def load(self, *inputs: Tensor) -> None:
        """Write other inputs, of the same shapes and types, where the graph reads."""
        with torch.inference_mode():
            for held, given in zip(self._inputs, inputs, strict=True):
                held.copy_(given)

    def replay(self) -> Answer:
        """Run it once more; the answer is overwritten by the next replay."""
        if self._graph is not None:
            self._graph.replay()
        else:
            with torch.inference_mode():
                self.answer = self._function(*self._inputs)
        return self.answer

"""A module that is captured once and replayed: every tensor that it reads or writes is allocated before the capture.

On a card a call is one CUDA graph replay between two copies; on a CPU the module is called. What is computed is the
same module, and the caller cannot tell the two apart but by speed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auralsam2_client.contract import DTYPES, TensorSpec

# Inductor compiles and Triton's launches are prepared in the first call, allocators settle in the next two.
WARM_UP_CALLS = 3


class Captured:
    """Calls are not re-entrant; outputs are valid until the next call. All work goes to the current stream."""

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: torch.device,
        pool: Any = None,
    ) -> None:
        """Allocate the buffers of `module`, which is on `device` already, and capture it there.

        Args:
            inputs: what it takes by position, shapes as the module has them.
            outputs: what it gives, a tensor or a tuple of them.
            pool: of `torch.cuda.graph_pool_handle`: graphs that never run side by side share what they compute in.
        """
        self.input_shapes = {spec.name: spec.shape for spec in inputs}
        self.output_shapes = {spec.name: spec.shape for spec in outputs}
        self.device = device
        self._module = module
        self.inputs = {spec.name: torch.zeros(spec.shape, dtype=torch_dtype(spec), device=device) for spec in inputs}
        self.outputs: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._capture(pool)

    def replay(self) -> dict[str, Tensor]:
        """Compute from what `inputs` hold; the outputs, by name, are where they always are on a card."""
        if self._graph is None:
            self.outputs = self._call()
        else:
            self._graph.replay()
        return self.outputs

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Copy the inputs in, numpy arrays or tensors of any device, and compute."""
        for name, buffer in self.inputs.items():
            value = inputs[name]
            # A page of the caller's own may be read only, which PyTorch warns of; nothing writes here.
            source = value if isinstance(value, Tensor) else from_numpy(np.asarray(value))
            buffer.copy_(source, non_blocking=True)
        return self.replay()

    def _capture(self, pool: Any) -> None:
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                self._call()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        torch.cuda.synchronize(self.device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self.outputs = self._call()

    def _call(self) -> dict[str, Tensor]:
        with torch.no_grad():
            answer = self._module(*self.inputs.values())
        values = answer if isinstance(answer, tuple) else (answer,)
        return dict(zip(self.output_shapes, values, strict=True))


def torch_dtype(spec: TensorSpec) -> torch.dtype:
    """Give PyTorch's type of a tensor of the contract."""
    return torch.from_numpy(np.empty(0, DTYPES[spec.dtype])).dtype


def from_numpy(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """View an array as a tensor; one that is read only or not contiguous is copied."""
    usable = values if values.flags.writeable and values.flags.c_contiguous else values.copy()
    return torch.from_numpy(usable)

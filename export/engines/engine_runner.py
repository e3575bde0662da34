"""Run a built engine on the GPU of this machine, one clip a call: what the gate needs, not what serves."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from export.engines.cuda_driver import CudaMemory, load_driver
from export.errors import ExportError

Array = npt.NDArray[Any]
TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}


def load_runtime(flavour: str) -> ModuleType:
    """Import the package that runs the engines it builds. Raises ExportError when it is not installed."""
    try:
        return importlib.import_module(flavour)
    except ImportError as error:
        raise ExportError(f"{flavour} is not installed ({error}); its engines run with it.") from error


class LoadedEngine:
    """An engine with its buffers; the same protocol as the engines of a CPU. Close it, or use it as a context.

    Args:
        path: the engine. Its shapes must be fixed.
        package: tensorrt or tensorrt_rtx, of the version that built the engine.
        memory: of the card; None: of the first card here.
    Raises: ExportError when the engine does not load here, or memory does not suffice.
    """

    input_shapes: dict[str, tuple[int, ...]]
    output_shapes: dict[str, tuple[int, ...]]

    def __init__(self, path: Path, package: ModuleType, memory: CudaMemory | None = None) -> None:
        trt: Any = package
        self._memory = CudaMemory(load_driver()) if memory is None else memory
        log = trt.Logger(trt.Logger.ERROR)
        # The runtime must outlive its engines.
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ExportError(
                f"{path.name} does not load on this card with {trt.__name__} {trt.__version__}. Build it again."
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            free, total = self._memory.free_bytes()
            raise ExportError(
                f"{path.name}: not enough GPU memory: the engine wants {self._engine.device_memory_size_v2} bytes"
                f" beside its weights, {free} of {total} are free."
            )
        self.input_shapes, self.output_shapes = {}, {}
        self._buffers: dict[str, int] = {}
        self._arrays: dict[str, Array] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(self._engine.get_tensor_shape(name))
            array: Array = np.empty(shape, TYPES[self._engine.get_tensor_dtype(name).name])
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.input_shapes if is_input else self.output_shapes)[name] = shape
            self._arrays[name], self._buffers[name] = array, self._memory.allocate(array.nbytes)
            if not self._context.set_tensor_address(name, self._buffers[name]):
                raise ExportError(f"{path.name}: the engine refuses a buffer for {name}.")

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One clip. Outputs are valid until the next call. Raises ExportError for other inputs, or when it fails."""
        for name, shape in self.input_shapes.items():
            array, wanted = inputs[name], self._arrays[name].dtype
            if array.shape != shape or array.dtype != wanted:
                raise ExportError(
                    f"{name} is {array.dtype} {list(array.shape)}; the engine takes {wanted} {list(shape)}."
                )
            self._memory.upload(self._buffers[name], array)
        # The default stream, and nothing beside it.
        if not self._context.execute_async_v3(0):
            raise ExportError("the engine did not start.")
        self._memory.synchronize()
        for name in self.output_shapes:
            self._memory.download(self._buffers[name], self._arrays[name])
        return {name: self._arrays[name] for name in self.output_shapes}

    def close(self) -> None:
        self._context = self._engine = self._runtime = None
        self._memory.close()

    def __enter__(self) -> "LoadedEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

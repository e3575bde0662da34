"""Stand-ins for what no test machine has: a builder of engines, a CUDA driver, and a package that runs an engine.

A stand-in engine is the ONNX graph it was built from, so that an engine's answers are a graph's, right or altered.
Device memory is the machine's own: addresses are real, and copies really copy.
"""

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.engines.cuda_driver import OUT_OF_MEMORY, Card
from export.engines.tensorrt_builder import Built
from export.errors import ExportError

ADA = Card("NVIDIA RTX 4090", 89)
L4 = Card("NVIDIA L4", 89)


@dataclasses.dataclass
class FakeBuilder:
    """Builds `engine_of` the graph, by default its bytes; with `least_bytes` capabilities behind them, filled up."""

    flavour: str = "tensorrt_rtx"
    version: str = "1.7.1"
    cuda: str = "13"
    card: Card | None = None
    targets: tuple[int, ...] | None = (75, 86, 89, 120)
    refusal: str | None = None
    builds: int = 0
    least_bytes: int = 0
    memory: tuple[int, int] | None = None
    engine_of: Callable[[Path], bytes] = Path.read_bytes

    def gpu_memory(self) -> tuple[int, int] | None:
        return self.memory

    def build(self, onnx: Path, capabilities: tuple[int, ...], timing_cache: Path | None) -> Built:
        self.builds += 1
        if self.refusal is not None:
            raise ExportError(self.refusal)
        content = self.engine_of(onnx)
        if self.least_bytes:
            content = (content + repr(capabilities).encode()).ljust(self.least_bytes, b".")
        return Built(memoryview(content), frozenset({"float32"}), ("a weight is subnormal",))


def fake_tensorrt(card: Card | None, **settings: Any) -> FakeBuilder:
    return FakeBuilder(flavour="tensorrt", version="11.4", card=card, targets=None, **settings)


class FakeDriver:
    """The functions of the CUDA driver that are called, by its names, with `total` bytes of memory on one card."""

    # ruff: noqa: N802

    def __init__(self, card: Card | None = ADA, total: int = 1 << 30) -> None:
        self.card, self.total = card, total
        self.buffers: dict[int, Any] = {}
        self.failing: dict[str, int] = {}
        self.synchronized = 0

    def __getattribute__(self, name: str) -> Any:
        failing = object.__getattribute__(self, "__dict__").get("failing", {})
        return (lambda *_: failing[name]) if name in failing else object.__getattribute__(self, name)

    @property
    def free(self) -> int:
        return self.total - sum(len(buffer) for buffer in self.buffers.values())

    def cuInit(self, flags: int) -> int:
        return 0 if self.card else 100

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        assert self.card
        name.value = self.card.name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        assert self.card
        value._obj.value = {75: self.card.capability // 10, 76: self.card.capability % 10}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuCtxSynchronize(self) -> int:
        self.synchronized += 1
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.free, self.total
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        if size.value > self.free:
            return OUT_OF_MEMORY
        buffer = (ctypes.c_char * size.value)()
        address._obj.value = ctypes.addressof(buffer)
        self.buffers[address._obj.value] = buffer
        return 0

    def cuMemcpyHtoD_v2(self, device: Any, host: Any, size: Any) -> int:
        return self._copy(device.value, host.value, device.value, size.value)

    def cuMemcpyDtoH_v2(self, host: Any, device: Any, size: Any) -> int:
        return self._copy(host.value, device.value, device.value, size.value)

    def _copy(self, target: int, source: int, device: int, size: int) -> int:
        assert size <= len(self.buffers[device])
        ctypes.memmove(target, source, size)
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        del self.buffers[address.value]
        return 0


class FakeEngine:
    """What TensorRT's runtime makes of a stand-in engine, as far as it is asked."""

    device_memory_size_v2 = 123_456

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.tensors = {**self.inputs, **{each.name: each for each in self.session.get_outputs()}}
        self.num_io_tensors = len(self.tensors)
        self.has_memory = True

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name].shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name={"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8"}[self.tensors[name].type])

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def create_execution_context(self) -> "FakeContext | None":
        return FakeContext(self) if self.has_memory else None


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        arrays = {name: self._view(name) for name in self.engine.tensors}
        answer = self.engine.session.run(None, {name: arrays[name] for name in self.engine.inputs})
        for each, value in zip(self.engine.session.get_outputs(), answer, strict=True):
            arrays[each.name][...] = value
        return True

    def _view(self, name: str) -> Any:
        dtype = np.dtype({"FLOAT": np.float32, "UINT8": np.uint8}[self.engine.get_tensor_dtype(name).name])
        shape = self.engine.get_tensor_shape(name)
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), dtype).reshape(shape)


class FakeRuntime:
    loads = True

    def __init__(self, log: object) -> None:
        self.log = log

    def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
        return FakeEngine(content) if self.loads else None


def fake_package(runtime: type[FakeRuntime] = FakeRuntime) -> Any:
    """In place of the module tensorrt."""
    logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    return SimpleNamespace(
        __name__="tensorrt",
        __version__="11.4",
        Logger=logger,
        Runtime=runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
    )


def write_graph(path: Path, op_type: str = "MatMul", element: int = TensorProto.FLOAT) -> Path:
    """Write Y = X W, or another operator of both; X [2, 8], W [8, 8]."""
    weights = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    initializer = numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(element)), "W")
    value = [helper.make_tensor_value_info(name, element, [2, 8]) for name in "XY"]
    node = helper.make_node(op_type, ["X", "W"], ["Y"], name="the_only_node")
    graph = helper.make_graph([node], "graph", value[:1], value[1:], [initializer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def names(folder: Path) -> list[str]:
    """List what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def verbs(lines: list[str]) -> list[list[str]]:
    """Take the first two words of each line of progress: what was done, and to what."""
    return [line.split()[:2] for line in lines]

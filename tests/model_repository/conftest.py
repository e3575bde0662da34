"""Fixtures of the stage runtime's tests: the small build, a graph that is arithmetic, and a server's Python side."""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]


class ArithmeticEngine:
    """Y = 2 X and Z = mean of X, into the same memory at every call, as OpenVINO does."""

    def __init__(self, frames: int) -> None:
        self.input_shapes = {"X": (frames, 3)}
        self.output_shapes = {"Y": (frames, 3), "Z": (frames,)}
        self.calls = 0
        self._y, self._z = np.empty((frames, 3), np.float32), np.empty(frames, np.float32)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert set(inputs) == {"X"}, "the graph takes X alone"
        assert inputs["X"].shape == self.input_shapes["X"]
        self.calls += 1
        np.multiply(inputs["X"], 2, out=self._y)
        np.mean(inputs["X"], axis=1, out=self._z)
        return {"Y": self._y, "Z": self._z}


@pytest.fixture
def arithmetic_engine() -> type[ArithmeticEngine]:
    return ArithmeticEngine


class TritonError:
    CANCELLED, INVALID_ARG, INTERNAL, UNAVAILABLE = "CANCELLED", "INVALID_ARG", "INTERNAL", "UNAVAILABLE"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class Tensor:
    """Keeps the caller's array, as the server's does: it is read after `execute` has returned."""

    def __init__(self, name: str, values: Array) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> Array:
        return self.values


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]
    error: TritonError | None = None

    def arrays(self) -> dict[str, Array]:
        return {tensor.name: tensor.values for tensor in self.output_tensors}


@dataclass
class Request:
    inputs: dict[str, Array]
    outputs: list[str]
    cancelled: bool = False
    timeout_us: int = 0
    id: str = "clip-7"
    said: dict[str, str] = field(default_factory=dict)

    def parameters(self) -> str:
        return json.dumps(self.said) if self.said else ""

    def timeout(self) -> int:
        return self.timeout_us

    def is_cancelled(self) -> bool:
        return self.cancelled

    def requested_output_names(self) -> list[str]:
        return self.outputs

    def request_id(self) -> str:
        return self.id


class MetricFamily:
    """Keeps what is written, by family and labels, in `written`."""

    COUNTER, GAUGE, HISTOGRAM = "COUNTER", "GAUGE", "HISTOGRAM"
    written: ClassVar[dict[str, dict[frozenset[tuple[str, str]], list[float]]]] = {}

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def Metric(self, labels: dict[str, str], buckets: list[float] | None = None) -> "Metric":  # noqa: N802
        assert (self.kind == "HISTOGRAM") == (buckets is not None)
        values = self.written.setdefault(self.name, {}).setdefault(frozenset(labels.items()), [])
        return Metric(values)


@dataclass
class Metric:
    values: list[float]

    def increment(self, amount: float) -> None:
        self.values.append(amount)

    def observe(self, amount: float) -> None:
        self.values.append(amount)

    def set(self, value: float) -> None:
        self.values[:] = [value]


@dataclass
class Backend:
    """The fake of triton_python_backend_utils, and what was logged through it."""

    module: ModuleType
    log: list[str] = field(default_factory=list)
    request: type[Request] = Request

    def written(self, name: str, **labels: str) -> list[float]:
        """What was written to the samples of a family that carry these labels, in no order."""
        samples = MetricFamily.written.get(name, {}).items()
        return [value for found, values in samples if frozenset(labels.items()) <= found for value in values]


# What imports the server's Python side.
# What imports the server's own module.
ADAPTERS = tuple(
    f"model_repository.stage_runtime.{name}"
    for name in ("adapter", "sessions.adapter", "sessions.stage_calls", "text.model")
)


def forget_runtime() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "stage_runtime" or name in ADAPTERS:
            del sys.modules[name]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """`import triton_python_backend_utils` works as inside the server, for this test."""
    module = ModuleType("triton_python_backend_utils")
    found = Backend(module)
    types = {
        "TYPE_FP32": np.float32,
        "TYPE_FP16": np.float16,
        "TYPE_UINT8": np.uint8,
        "TYPE_INT32": np.int32,
        "TYPE_BOOL": np.bool_,
        "TYPE_STRING": np.object_,
    }
    contents: dict[str, Any] = {
        "TritonError": TritonError,
        "Tensor": Tensor,
        "MetricFamily": MetricFamily,
        "InferenceResponse": InferenceResponse,
        "Logger": SimpleNamespace(log_error=found.log.append, log_info=lambda line: None),
        "triton_string_to_numpy": lambda name: types[name],
        "get_input_tensor_by_name": lambda request, name: (
            Tensor(name, request.inputs[name]) if name in request.inputs else None
        ),
    }
    for name, value in contents.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    MetricFamily.written.clear()
    monkeypatch.setenv("AURALSAM2_LAUNCH", f"auralsam2_test_{os.getpid()}_")
    forget_runtime()
    yield found
    forget_runtime()
    for path in Path("/dev/shm").glob(f"auralsam2_test_{os.getpid()}_*"):
        path.unlink()


@pytest.fixture
def adapter(backend: Backend) -> ModuleType:
    return importlib.import_module("model_repository.stage_runtime.adapter")

"""The CPU engines that run an ONNX file: OpenVINO, and ONNX Runtime as the named alternative."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from auralsam2_client.contract import CACHE_VARIABLE

Array = npt.NDArray[Any]
ENGINES = ("openvino", "onnxruntime")
# OpenVINO's names of the arithmetic that our precisions ask for.
OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16"}
HASH_BLOCK_BYTES = 1 << 20


# bfloat16 where the CPU has it, float32 elsewhere; what was chosen is for `resolve_precision` to say.
AUTO = "auto"
# The graph itself holds int8 layers; what it leaves in floating point is computed as `auto` says.
INT8 = "int8"


class EngineError(RuntimeError):
    """A model file or an engine setting that cannot be used. Names the file, what was found and the way out."""


class Engine(Protocol):
    """A loaded graph. Calls are not re-entrant; outputs are valid until the next call."""

    input_shapes: dict[str, tuple[int, ...]]
    output_shapes: dict[str, tuple[int, ...]]

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]: ...


class OpenVinoEngine:
    """OpenVINO on CPU, tuned for the latency of one clip at a time; compiled models are cached on disk."""

    def __init__(self, path: Path, precision: str, cache_dir: Path | None) -> None:
        import openvino

        check_precision("openvino", precision)
        # Left unset, OpenVINO computes in bfloat16 where the CPU has it, without saying so.
        settings = {"INFERENCE_PRECISION_HINT": OPENVINO_PRECISION[precision], "PERFORMANCE_HINT": "LATENCY"}
        if cache_dir is not None:
            settings["CACHE_DIR"] = str(cache_dir)
        with _alone_in_cache(cache_dir, path):
            compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self.input_shapes = {port.any_name: tuple(port.shape) for port in compiled.inputs}
        self.output_shapes = {port.any_name: tuple(port.shape) for port in compiled.outputs}
        self._names = list(self.output_shapes)
        self._request = compiled.create_infer_request()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return {name: self._request.get_output_tensor(index).data for index, name in enumerate(self._names)}


@contextlib.contextmanager
def _alone_in_cache(cache_dir: Path | None, graph: Path) -> Iterator[None]:
    """Let one process at a time compile a graph into the cache.

    The decoder and the sessions open the same graphs when a server starts, and two processes that write one file of the
    cache fail. Locked is a file of this user's own: whoever may read the graph could hold a lock on that, for ever.
    """
    if cache_dir is None:
        yield
        return
    name = hashlib.sha256(os.fsencode(graph.absolute())).hexdigest()[:16]
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache_dir / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # What cannot be written is not written by two either.
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class OnnxRuntimeEngine:
    """ONNX Runtime's CPU provider, float32 only."""

    def __init__(self, path: Path, precision: str, keep_memory: bool = True) -> None:
        import onnxruntime

        check_precision("onnxruntime", precision)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The arena keeps what a call needed for the next call, and lays tensors out beside each other for speed.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = keep_memory
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_shapes = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        self.output_shapes = {value.name: tuple(value.shape) for value in self._session.get_outputs()}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.output_shapes, self._session.run(None, dict(inputs)), strict=True))


def openvino_capabilities() -> list[str]:
    """Ask OpenVINO what this CPU computes in: FP32 everywhere, BF16 with AVX512_BF16 or AMX."""
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def check_precision(kind: str, precision: str) -> None:
    """Raise EngineError when the engine `kind` does not compute in `precision` on this CPU.

    OpenVINO itself would say nothing and compute in float32.
    """
    if kind == "onnxruntime":
        if precision != "float32":
            raise EngineError(f"onnxruntime: precision {precision!r}; it computes in float32. Use the openvino engine.")
        return
    if precision not in OPENVINO_PRECISION:
        raise EngineError(f"openvino: precision {precision!r}; choose one of {', '.join(OPENVINO_PRECISION)}.")
    if precision == "bfloat16" and "BF16" not in (found := openvino_capabilities()):
        raise EngineError(
            f"openvino: precision 'bfloat16', but this CPU computes in {', '.join(found)} only, and would quietly use"
            " float32. Choose float32, or a CPU with AVX512_BF16 or AMX."
        )


def resolve_precision(kind: str, precision: str) -> str:
    """Resolve "auto" and "int8" to the floating-point type that they stand for on this CPU; any other stays."""
    if precision not in (AUTO, INT8):
        return precision
    return "bfloat16" if kind == "openvino" and "BF16" in openvino_capabilities() else "float32"


def load_engine(
    kind: str,
    path: Path,
    *,
    precision: str = "float32",
    cache_dir: Path | None = None,
    keep_memory: bool = True,
) -> Engine:
    """Load the graph at `path` with the engine `kind`.

    Args:
        kind: "openvino" | "onnxruntime".
        precision: "float32" | "bfloat16" (openvino only) | "auto" | "int8", for a graph that was quantised: the type of
            the arithmetic; tensors stay float32.
        cache_dir: where OpenVINO keeps compiled models, so that a second start is short; None keeps none.
        keep_memory: onnxruntime: hold what a call needed for the next one. False for a graph that is called once, or
            whose maps would fill the machine: at 1024 px the attention scores of five frames alone are 2.7 GB.
    Raises: EngineError for an unknown engine or precision, or a missing file.
    """
    if kind not in ENGINES:
        raise EngineError(f"engine {kind!r} is unknown; choose one of {', '.join(ENGINES)}.")
    if not path.is_file():
        raise EngineError(f"{path.name}: no such model file. Write it again with: auralsam2 export")
    precision = resolve_precision(kind, precision)
    if kind == "openvino":
        return OpenVinoEngine(path, precision, cache_dir)
    return OnnxRuntimeEngine(path, precision, keep_memory)


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def check_hash(path: Path, wanted: str) -> None:
    """Raise EngineError when the file at `path` is missing or is not the one that was exported."""
    if not path.is_file():
        raise EngineError(f"{path.name}: no such model file. Write it again with: auralsam2 export")
    found = file_sha256(path)
    if found != wanted:
        raise EngineError(
            f"{path.name}: SHA-256 {found[:12]}, exported as {wanted[:12]}: the file was altered. Write it again with:"
            " auralsam2 export"
        )


def cache_dir_from_environment() -> Path | None:
    """Read AURALSAM2_CACHE_DIR, the folder that the launcher names; None outside a launched server."""
    value = os.environ.get(CACHE_VARIABLE)
    return Path(value) if value else None


def first_non_finite(values: Array) -> tuple[int, ...] | None:
    """Find the index of the first NaN or Inf, None where all are finite."""
    if np.isfinite(values).all():
        return None
    return tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])

"""What builds an engine: TensorRT, for the GPU of this machine, or TensorRT-RTX, for a named card and without a GPU.

Both packages offer one API, so there is one builder. Networks are strongly typed: each tensor has the type that the
ONNX file gives it, so the precision is chosen there. TF32, which both packages switch on, is switched off: float32 in a
graph stands where rounding to 10 bits of mantissa was not wanted.
"""

import contextlib
import importlib
import importlib.metadata
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from export.engines.cuda_driver import Card, CudaMemory, current_card, load_driver
from export.errors import ExportError

FLAVOURS = ("tensorrt", "tensorrt_rtx")
PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
MAX_ERRORS = 5
# Some errors print the weights of the layer that they name.
MAX_MESSAGE = 400


@dataclass(frozen=True)
class Built:
    """What a builder hands back: the engine's bytes, and the floating-point types that its network computes in."""

    engine: memoryview
    types: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """The narrowest type of the network; float32 parts beside it are usual."""
        return next((narrow for narrow in ("float16", "bfloat16") if narrow in self.types), "float32")


class EngineBuilder(Protocol):
    """What makes an engine of an ONNX file: one of the two packages, or a stand-in for it in tests."""

    flavour: str
    version: str
    cuda: str
    """The CUDA version that the package was made for."""
    card: Card | None
    """The GPU of this machine."""
    targets: tuple[int, ...] | None
    """The compute capabilities that can be built for without the card; None: `card` is the only target."""

    def gpu_memory(self) -> tuple[int, int] | None:
        """Free and total bytes of the card that building takes place on; None where it takes place on the CPU."""

    def build(self, onnx: Path, capabilities: tuple[int, ...], timing_cache: Path | None) -> Built: ...


def load_builder(flavour: str) -> EngineBuilder:
    """Load the builder of an installed package: "tensorrt" or "tensorrt_rtx".

    Raises: ExportError for another flavour, or a package that is not installed; says what to install.
    """
    if flavour not in FLAVOURS:
        raise ExportError(f"engine package {flavour!r} is unknown; choose one of {', '.join(FLAVOURS)}.")
    package = PACKAGES[flavour]
    try:
        module = importlib.import_module(flavour)
    except ImportError as error:
        raise ExportError(
            f"{flavour} is not installed ({error}); engines are built with it. Install it with: pip install {package}"
        ) from error
    return PackageBuilder(module, flavour, current_card())


class PackageBuilder:
    """TensorRT or TensorRT-RTX, by their common API."""

    def __init__(self, module: ModuleType, flavour: str, card: Card | None) -> None:
        self._trt: Any = module
        self.flavour = flavour
        self.version = str(self._trt.__version__)
        self.cuda = _package_cuda(flavour)
        self.card = card
        members = getattr(self._trt, "ComputeCapability", None) if flavour == "tensorrt_rtx" else None
        self._capabilities = {} if members is None else dict(members.__members__)
        numbers = [int(name[2:]) for name in self._capabilities if name.startswith("SM")]
        self.targets: tuple[int, ...] | None = tuple(sorted(numbers)) or None

    def gpu_memory(self) -> tuple[int, int] | None:
        if self.card is None or self.targets is not None:
            return None
        return CudaMemory(load_driver()).free_bytes()

    def build(self, onnx: Path, capabilities: tuple[int, ...], timing_cache: Path | None) -> Built:
        """Parse and build. Raises ExportError with the nodes that the parser or the builder refuses."""
        trt = self._trt
        log = _collector(trt)
        builder = trt.Builder(log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        parsed = parser.parse_from_file(str(onnx))
        if not parsed or parser.num_errors:
            raise ExportError(f"{onnx.name}: {self.flavour} cannot read it. {_parser_errors(parser)}")
        # A file that is not ONNX at all parses as an empty network, and builds.
        if not network.num_layers or not network.num_outputs:
            raise ExportError(f"{onnx.name} holds no graph: it is not an ONNX file, or an empty one.")
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.targets is not None:
            config.num_compute_capabilities = len(capabilities)
            for index, each in enumerate(capabilities):
                if not config.set_compute_capability(self._capabilities[f"SM{each}"], index):
                    raise ExportError(f"{self.flavour} {self.version} refuses compute capability {each}.")
        cache = None if timing_cache is None else _timing_cache(config, timing_cache)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ExportError(
                f"{onnx.name}: {self.flavour} {self.version} cannot build it for {name_capabilities(capabilities)}."
                f" {' '.join(log.errors[-MAX_ERRORS:]) or 'It gave no reason.'}"
            )
        if cache is not None and timing_cache is not None:
            write_whole(timing_cache, memoryview(cache.serialize()))
        return Built(memoryview(engine), self._types(network), tuple(dict.fromkeys(log.warnings)))

    def _types(self, network: Any) -> frozenset[str]:
        names = {self._trt.DataType.FLOAT: "float32", self._trt.DataType.HALF: "float16"}
        names[self._trt.DataType.BF16] = "bfloat16"
        layers = (network.get_layer(index) for index in range(network.num_layers))
        found = {layer.get_output_type(index) for layer in layers for index in range(layer.num_outputs)}
        return frozenset(name for kind, name in names.items() if kind in found)


def _timing_cache(config: Any, path: Path) -> Any:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise ExportError(f"{path.name} is a timing cache of another version or card. Remove it, or name another.")
    return cache


def _parser_errors(parser: Any) -> str:
    """Every node that the parser refuses, by name and operator, with its reason."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [
        f"{error.node_operator() or 'file'} {error.node_name() or ''}".strip() + f": {error.desc()}"
        for error in errors[:MAX_ERRORS]
    ]
    more = len(errors) - len(lines)
    return " ".join([*lines, *([f"And {more} more."] if more > 0 else [])]) or "It gave no reason."


def _collector(trt: Any) -> Any:
    """A logger that keeps warnings and errors, for messages; the package prints nothing."""

    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message.strip()[:MAX_MESSAGE])
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message.strip()[:MAX_MESSAGE])

    return Collector()


def _package_cuda(flavour: str) -> str:
    """The CUDA version in the name of the package that brings the libraries, e.g. 13; "unknown" for other installs."""
    pattern = re.compile(rf"{flavour}_cu(\d+)(_bindings|_libs)?")
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("-", "_")
        if match := pattern.fullmatch(name):
            return match[1]
    return "unknown"


def name_capabilities(capabilities: tuple[int, ...] | list[int]) -> str:
    return ", ".join(str(each) for each in capabilities)


def write_whole(path: Path, content: memoryview) -> None:
    """Write to a name beside `path`, then rename: a reader sees the old file or the whole new one."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ExportError(
            f"{path.name}: {content.nbytes} bytes could not be written ({error.strerror}); {_free(path.parent)}. Make"
            " room, or name another folder."
        ) from error
    finally:
        # Where a file stands in place of the folder, nothing is to be removed; the error above is the one to tell.
        with contextlib.suppress(OSError):
            partial.unlink()


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free} bytes are free"
    except OSError:
        return "there is no such folder"

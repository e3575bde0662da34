"""Which TensorRT the installed ONNX Runtime was linked to: beside another major version it falls to CUDA, in silence.

onnxruntime-gpu 1.31 on PyPI links libnvinfer 10, and TensorRT there is at 11.
"""

import importlib.metadata
import importlib.util
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "onnxruntime"
LIBRARY = Path("capi") / "libonnxruntime_providers_tensorrt.so"
_LINKED = re.compile(rb"libnvinfer\.so\.(\d+)\x00")


@dataclass(frozen=True)
class LinkedProvider:
    """ONNX Runtime's provider for TensorRT."""

    version: str
    """Of ONNX Runtime."""
    nvinfer: int
    """Major version of the TensorRT that it was linked to."""


def find_provider(folder: Path | None = None) -> LinkedProvider | None:
    """Find the provider for TensorRT, without loading it; None where there is none.

    Args:
        folder: of the package; by default that which this Python would import.
    """
    if folder is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
    try:
        with (folder / LIBRARY).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            linked = _LINKED.search(content)
            nvinfer = None if linked is None else int(linked[1])
    except (OSError, ValueError):
        return None
    return None if nvinfer is None else LinkedProvider(_version(), nvinfer)


def _version() -> str:
    for name in importlib.metadata.packages_distributions().get(PACKAGE, []):
        return importlib.metadata.version(name)
    return "of unknown version"

"""Which build of torch is installed, read from its files: importing it takes seconds, and the client has none."""

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

CUDA_BUILD = "make setup TORCH=cuda"
"""The one-line way to a CUDA build; without TORCH, set-up picks it where a driver is."""


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch."""

    version: str
    """As "2.13.0+cu130"."""
    cuda: tuple[int, int] | None
    """The CUDA that it is built for; None: a CPU build."""


def installed_torch(folder: Path | None = None) -> TorchBuild | None:
    """Read the version of torch and its CUDA; None where there is no torch, or none that says both.

    Args:
        folder: of the package; by default that which this Python would import.
    """
    if folder is None:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
    try:
        said = _literals((folder / "version.py").read_text())
    except (OSError, SyntaxError, ValueError):
        return None
    version, cuda = said.get("__version__"), said.get("cuda")
    if not isinstance(version, str):
        return None
    return TorchBuild(version, _pair(cuda) if isinstance(cuda, str) else None)


def _literals(source: str) -> dict[str, object]:
    """Names that a module gives a literal."""
    found: dict[str, object] = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            found[target.id] = value.value
    return found


def _pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)

"""The manifest of a build: what export wrote, and the proof that the files are still those."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from auralsam2_client.contract import BUILD_FORMAT
from auralsam2_client.errors import ConfigError

REMEDY = "Export the build again: auralsam2 export."
ENGINE_REMEDY = "Build the engines again: auralsam2 engines --build {build}"
# Builds of earlier versions, and what they are without.
EARLIER_FORMATS = {
    1: "whose masks differ from the published network's from the second frame on",
    2: "whose stages know nothing of encoded frames",
    3: "whose clips and sessions are known by numbers of their callers",
}
# What a build is for, and the backend of the server that loads its stages.
BACKENDS = {"cpu": "python", "cuda": "python", "onnx-gpu": "onnxruntime", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Manifest:
    """What export wrote down about a build."""

    name: str
    preset: str
    image_size: int
    num_frames: int
    precision: str
    engine: str
    weights: str
    files: dict[str, str]  # path below the build folder -> sha256
    trained_on: str = ""
    """What the weights know, as `contract.BuildInfo` has it; empty where their file does not say."""
    target: str = "cpu"
    device: str = ""
    """Of target cuda: cuda, or cpu, where the same stages run without a card. Empty for other targets."""
    card: dict[str, Any] = field(default_factory=dict)
    """Of target cuda on a card: its name, capability and memory_bytes that a start needs."""

    @property
    def needs_gpu(self) -> bool:
        """True when the build was made for a server with a card."""
        return self.target != "cpu" and self.device != "cpu"

    @property
    def in_python(self) -> bool:
        """True when its stages run in Python, and so know prompts and sessions."""
        return BACKENDS.get(self.target) == "python"

    @property
    def in_pytorch(self) -> bool:
        """True when its stages compute in PyTorch."""
        return self.target == "cuda"

    @property
    def backend(self) -> str:
        """The server's backend that loads the stages. Raises: ConfigError for a target that no server loads."""
        if self.target not in BACKENDS:
            raise ConfigError(
                f"{self.name} holds engines for {self.target}, which no server loads, only a program of your own with"
                f" that runtime (docs/gpus.md). To serve, export with --target {', '.join(BACKENDS)}."
            )
        return BACKENDS[self.target]


def read_manifest(build: Path) -> Manifest:
    """Read `manifest.json` of a build folder. Raises: ConfigError when it is absent or not understood."""
    path = build / "manifest.json"
    try:
        record: Any = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist, so {build} is not a build. Make one: auralsam2 export.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. {REMEDY}") from error
    if not isinstance(record, dict) or record.get("format") != BUILD_FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        if isinstance(found, int) and found in EARLIER_FORMATS:
            raise ConfigError(
                f"{path}: format = {found}; this build is of an earlier version, {EARLIER_FORMATS[found]}, so it is not"
                " served: export it again with auralsam2 export."
            )
        raise ConfigError(f"{path}: format = {found!r}; this version reads {BUILD_FORMAT}. {REMEDY}")
    kinds = {"image_size": int, "num_frames": int, "files": dict, "card": dict}
    values: dict[str, Any] = {}
    absent: dict[str, Any] = {"trained_on": "", "target": "cpu", "device": "", "card": {}}
    for name in Manifest.__dataclass_fields__:
        value, kind = record.get(name, absent.get(name)), kinds.get(name, str)
        if not isinstance(value, kind):
            raise ConfigError(f"{path}: {name} = {value!r}; must be {kind.__name__}. {REMEDY}")
        values[name] = value
    return Manifest(**values)


def verify_files(build: Path, manifest: Manifest) -> None:
    """Prove that the served files are exactly those that export wrote.

    Compiled Python files are no part of a manifest and would run in place of the source, so they are removed.

    Raises: ConfigError naming the file that is missing, altered, unlisted or outside the build.
    """
    for folder in (build / "models").rglob("__pycache__"):
        shutil.rmtree(folder, ignore_errors=True)
    if not any(name.startswith("models/") for name in manifest.files):
        raise ConfigError(f"{build / 'manifest.json'} lists no file below models/. {REMEDY}")
    for name, listed in manifest.files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ConfigError(f"manifest.json lists {name!r}; paths must lie inside the build. {REMEDY}")
        found = sha256(build / name)
        if found != listed:
            # An engine is built again on its own, from the graph that the build keeps.
            is_engine = name.endswith((".plan", ".plan.json"))
            remedy = ENGINE_REMEDY.format(build=build) if is_engine else REMEDY
            raise ConfigError(
                f"{name} is not the file that was exported: sha256 {found[:12]}, manifest.json says {listed[:12]}. "
                f"{remedy}"
            )
    for path in (build / "models").rglob("*"):
        name = path.relative_to(build).as_posix()
        # Another server of this build may be compiling its own just now.
        if path.is_file() and "__pycache__" not in path.parts and name not in manifest.files:
            raise ConfigError(f"{name} is not listed in manifest.json, so it would be served unchecked. Remove it.")


def sha256(path: Path) -> str:
    """Hash a file with sha256, piece by piece; return the hexadecimal digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} of the manifest cannot be read: {error.strerror}. {REMEDY}") from error

"""A server that is installed as a whole, as NVIDIA's image has it below /opt/tritonserver: found, not put together."""

import os
from pathlib import Path

from auralsam2_client.errors import ConfigError
from service.builds.manifest import Manifest
from service.server.config import PREFIX, ServerConfig
from service.server.runtime import Program

IMAGE_HOME = "/opt/tritonserver"
# The only one that the embedded server has.
EMBEDDED_BACKEND = "python"
_VERSION_FILE = "TRITON_VERSION"


def installed_home(config: ServerConfig, manifest: Manifest) -> Path | None:
    """Find the home of the server that serves a build; None where the embedded server does.

    Raises: ConfigError when the build needs an installed server and none is named.
    """
    if config.tritonserver is None and manifest.backend != EMBEDDED_BACKEND:
        raise ConfigError(
            f"{config.build} was exported for {manifest.target}: a GPU build needs NVIDIA's Triton Inference Server."
            f" Name its home with --tritonserver or {PREFIX}TRITONSERVER ({IMAGE_HOME} in NVIDIA's image), or export"
            " with --target cpu, which the embedded server serves."
        )
    return config.tritonserver


def installed_program(home: Path, backend: str, server_env: Path) -> Program:
    """Find the server below `home`, which must have a backend.

    Args:
        server_env: where Python stages find their packages, if it exists; else with the first python3 on PATH.
    Raises: ConfigError naming the path that is missing.
    """
    binary, backends = home / "bin" / "tritonserver", home / "backends"
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise ConfigError(
            f"{binary} is missing or not executable; --tritonserver and {PREFIX}TRITONSERVER name the home of a"
            f" server, {IMAGE_HOME} in NVIDIA's image."
        )
    if not (backends / backend).is_dir():
        present = ", ".join(installed_backends(home)) or "none"
        raise ConfigError(
            f"{backends / backend} is missing, and this build's stages need that backend; the server has {present}."
            " Take NVIDIA's full image (the one tagged -py3), or export for another --target."
        )
    own = [str(server_env / "bin")] if (server_env / "bin" / "python3").exists() else []
    libraries = [str(home / "lib")] if (home / "lib").is_dir() else []
    return Program(
        tritonserver=binary,
        backends=backends,
        # What the image says of both stays: CUDA, TensorRT and the driver's libraries are found by it.
        bin_dirs=(*own, *_read_list("PATH")),
        library_dirs=(*libraries, *_read_list("LD_LIBRARY_PATH")),
    )


def installed_backends(home: Path) -> list[str]:
    """List the names of the backends that a server has."""
    try:
        return sorted(path.name for path in (home / "backends").iterdir() if path.is_dir())
    except OSError:
        return []


def installed_version(home: Path) -> str:
    """Read the version, as "2.75.0"; "of unknown version" where the server does not say."""
    try:
        return (home / _VERSION_FILE).read_text().strip()
    except OSError:
        return "of unknown version"


def _read_list(variable: str) -> tuple[str, ...]:
    return tuple(entry for entry in os.environ.get(variable, "").split(os.pathsep) if entry)

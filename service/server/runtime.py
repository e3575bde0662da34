"""The server's own environment: where its binary, its Python backend and its libraries are, and what it inherits.

The stub of the Python backend takes its interpreter's packages from the `python3` that is first on PATH, ignores
PYTHONPATH and its like, and needs libpython as a shared library. Tried on the 2.51 server of nvidia-pytriton 0.7.0.
"""

import json
import os
import platform
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from auralsam2_client.contract import CACHE_VARIABLE, LAUNCH_VARIABLE, TORCH_VARIABLE
from auralsam2_client.errors import ConfigError
from service.server.config import SESSION_LIMITS, ServerConfig

# All that a stage may want to know of its surroundings. AIP_MODE is not in it: it would open the Vertex AI endpoint.
KEPT_VARIABLES = ("HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
KEPT_PREFIXES = ("AURALSAM2_", "OMP_", "KMP_", "OPENVINO_", "OV_", "ORT_", "CUDA_", "NVIDIA_")

_PROBE = """
import importlib.metadata as m, json, platform, sys, sysconfig
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
print(json.dumps({
    "version": platform.python_version(),
    "site_packages": sysconfig.get_path("purelib"),
    "libdirs": [sysconfig.get_config_var("LIBDIR") or "", sys.base_prefix + "/lib"],
    "packages": {n: version(n) for n in ("nvidia-pytriton", "numpy", "openvino", "onnxruntime")},
}))
"""


@dataclass(frozen=True)
class Program:
    """A server that can be started, the embedded one or an installed one."""

    tritonserver: Path
    backends: Path
    bin_dirs: tuple[str, ...]  # PATH; its python3 runs the Python stages
    library_dirs: tuple[str, ...]  # LD_LIBRARY_PATH


@dataclass(frozen=True)
class ServerRuntime:
    """What `find_runtime` found in the server environment."""

    bin: Path
    python_version: str  # "3.11.7"
    packages: dict[str, str | None]
    tritonserver: Path
    python_backend: Path
    stub: Path
    library_dirs: tuple[Path, ...]  # libpython's, then the wheel's own


def probe(server_env: Path) -> dict[str, object]:
    """Ask the environment's own Python for its version, folders and packages. Raises: ConfigError when it has none."""
    python = server_env / "bin" / "python3"
    if not python.exists():
        raise ConfigError(
            f"No server environment at {server_env}: bin/python3 is missing. "
            "Make it (`make setup`), or name another with AURALSAM2_SERVER_ENV."
        )
    try:
        answer = subprocess.run([python, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{python} does not run: {error}. Make the server environment again: make setup.") from error
    record: dict[str, object] = json.loads(answer.stdout)
    return record


def find_runtime(server_env: Path) -> ServerRuntime:
    """Find the server in an environment. Raises: ConfigError naming the part that is missing."""
    record = probe(server_env)
    version, site_packages = str(record["version"]), Path(str(record["site_packages"]))
    minor = ".".join(version.split(".")[:2])
    home = site_packages / "pytriton" / "tritonserver"
    parts = {
        "the server": home / "bin" / "tritonserver",
        "the Python backend": home / "backends" / "python" / "libtriton_python.so",
        f"the stub for Python {minor}": home / "python_backend_stubs" / minor / "triton_python_backend_stub",
    }
    for what, path in parts.items():
        if not path.exists():
            raise ConfigError(
                f"{what} is missing in {server_env} (looked for {path.relative_to(site_packages)}). "
                "Install nvidia-pytriton there with --no-deps, under a Python of 3.8 to 3.13."
            )
    tritonserver, backend, stub = parts.values()
    packages = record["packages"]
    assert isinstance(packages, dict)
    libraries = (libpython(record).parent, *sorted(site_packages.glob("nvidia_pytriton.libs")))
    return ServerRuntime(server_env / "bin", version, packages, tritonserver, backend.parent, stub, libraries)


def libpython(record: dict[str, object]) -> Path:
    """Find the shared library of an environment's Python, which the stages' stub loads.

    Args:
        record: of `probe`.
    Raises: ConfigError where that Python has none.
    """
    minor, libdirs = ".".join(str(record["version"]).split(".")[:2]), record["libdirs"]
    assert isinstance(libdirs, list)
    library = f"libpython{minor}.so.1.0"
    found = next((Path(folder) for folder in libdirs if folder and (Path(folder) / library).exists()), None)
    if found is None:
        raise ConfigError(
            f"{library} is in neither of {', '.join(libdirs)}; the stages need Python as a shared library. "
            "Make the server environment from a Python built with --enable-shared (a distribution's, uv's or conda's)."
        )
    return found / library


def assemble_backends(runtime: ServerRuntime, folder: Path) -> Path:
    """Lay out the backend directory that the server wants, with the right stub beside the backend; links only."""
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for path in (*runtime.python_backend.iterdir(), runtime.stub):
        if path.is_file():
            (backend / path.name).symlink_to(path)
    return backend.parent


def embedded_program(runtime: ServerRuntime, folder: Path) -> Program:
    """Find the embedded server, with its backends laid out below `folder`."""
    return Program(
        tritonserver=runtime.tritonserver,
        backends=assemble_backends(runtime, folder),
        bin_dirs=(str(runtime.bin), "/usr/local/bin", "/usr/bin", "/bin"),
        library_dirs=tuple(str(path) for path in runtime.library_dirs),
    )


def torch_path(runtime: ServerRuntime | None) -> str:
    """Tell in which folder the embedded server's Python finds PyTorch: that of this Python, after its own packages.

    Nothing for an installed server (None), whose Python has its own.

    Raises: ConfigError when the two Pythons are not of one version.
    """
    if runtime is None:
        return ""
    own = platform.python_version_tuple()[:2]
    if tuple(runtime.python_version.split(".")[:2]) != own:
        raise ConfigError(
            f"The server's Python is {runtime.python_version}, this one {platform.python_version()}; a build that"
            " computes in PyTorch takes it from here, so that both must be of one version. Make both again: make setup."
        )
    return sysconfig.get_path("purelib")


def environment(program: Program, config: ServerConfig, mark: str, torch_folder: str = "") -> dict[str, str]:
    """Build the variables of the server and its stages. Every process that it starts inherits `mark`.

    `torch_folder`: of `torch_path`, for a build that computes in PyTorch.
    """
    kept = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES or k.startswith(KEPT_PREFIXES)}
    threads = str(config.num_threads)
    return {
        # Cards are counted as nvidia-smi counts them (service/builds/gpus.py), not the fastest first.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **kept,
        "PATH": os.pathsep.join(program.bin_dirs),
        "LD_LIBRARY_PATH": os.pathsep.join(program.library_dirs),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "AURALSAM2_NUM_THREADS": threads,
        CACHE_VARIABLE: str(config.cache),
        LAUNCH_VARIABLE: mark,
        # PyTorch's threads would spin while the process of another stage has the core.
        **({TORCH_VARIABLE: torch_folder, "OMP_WAIT_POLICY": "PASSIVE"} if torch_folder else {}),
        **{
            name.variable: str(getattr(config, name))
            for name, _, _ in SESSION_LIMITS
            if getattr(config, name) is not None
        },
    }

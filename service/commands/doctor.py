"""Looks at this machine and says what is there, what is missing, and what to do about it. Starts no server."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from auralsam2_client.errors import ConfigError
from service.builds.engine_check import check_engines
from service.builds.gpus import find_gpus
from service.builds.manifest import BACKENDS, read_manifest, verify_files
from service.cards.diagnosis import count_hardware, diagnose
from service.cards.driver import Driver, installed_driver
from service.cards.onnx_provider import find_provider
from service.cards.torch_build import installed_torch
from service.door.nginx import check_nginx
from service.findings import Finding
from service.machine.open_files import NEEDED, hard_limit, shortage
from service.machine.shared_memory import FOLDER, free_bytes, needed_bytes
from service.server.config import DEFAULT_REGION_BYTES, PREFIX, find_server_env
from service.server.flags import known_flags
from service.server.installed_server import IMAGE_HOME, installed_backends, installed_program, installed_version
from service.server.runtime import find_runtime, libpython, probe

# Four stages and the sessions, each with a clip's tensors in and out, at 1024 px and five frames.
ENOUGH_SHARED_MEMORY = 768 << 20
BUILD = "build"
"""Name of the finding about a build."""
ENGINE_SERVING = "serving TensorRT and ONNX Runtime on GPUs"
# By the name that Python imports: how to get it, and which export needs it.
ENGINE_PACKAGES = {
    "tensorrt": ("pip install -r requirements/tensorrt.txt, in the version of the server's TensorRT.", "tensorrt"),
    "tensorrt_rtx": ("pip install tensorrt-rtx.", "tensorrt-rtx"),
}
# Whole families of instructions that the engines use: what it is good for.
CPU_FEATURES = {"avx2": "float32", "avx512f": "wide float32", "avx512_vnni": "int8", "avx512_bf16": "bfloat16"}


def examine(
    build: Path | None = None, server_env: Path | None = None, ports: tuple[int, ...] = (8001, 8002)
) -> list[Finding]:
    """Run every check. None fails the others, and none raises."""
    server_env = find_server_env() if server_env is None else server_env
    named = os.environ.get(f"{PREFIX}TRITONSERVER")
    checks: list[Callable[[], Finding | list[Finding]]] = [
        check_python,
        lambda: check_server_env(server_env),
        lambda: check_server(server_env),
        lambda: check_installed_server(Path(named) if named else None),
        check_cards,
        lambda: check_shared_memory(build),
        check_open_files,
        lambda: [check_port(port) for port in ports],
        check_nginx,
        check_cpu,
        check_export_packages,
        check_engine_packages,
        check_video,
        lambda: check_build(build),
    ]
    findings: list[Finding] = []
    for check in checks:
        found = check()
        findings += found if isinstance(found, list) else [found]
    return findings


def check_python() -> Finding:
    """Check the version of this Python."""
    return Finding(
        "python",
        (3, 11) <= sys.version_info < (3, 14),
        platform.python_version(),
        "Install Python 3.11, 3.12 or 3.13; make the environment again: make setup.",
    )


def check_server_env(server_env: Path) -> list[Finding]:
    """Check the server's own environment, its numpy and its engine."""
    try:
        record = probe(server_env)
    except ConfigError as error:
        return [Finding("server environment", False, str(error), "make setup, or set AURALSAM2_SERVER_ENV", "serve")]
    packages = record["packages"]
    assert isinstance(packages, dict)
    try:
        shared = Finding("libpython of the server", True, str(libpython(record)), needed_for="serve")
    except ConfigError as error:
        shared = Finding(
            "libpython of the server", False, str(error), "Take a Python with its shared library.", "serve"
        )
    numpy_version = packages["numpy"]
    numpy_ok = numpy_version is not None and int(numpy_version.split(".")[0]) < 2
    engines = [f"{name} {packages[name]}" for name in ("openvino", "onnxruntime") if packages[name]]
    return [
        Finding("server environment", True, f"Python {record['version']}", needed_for="serve"),
        shared,
        Finding(
            "numpy of the server",
            numpy_ok,
            numpy_version or "missing",
            "Install 'numpy<2' there: with numpy 2 every answer of the stages is empty.",
            "serve",
        ),
        Finding(
            "engine", bool(engines), ", ".join(engines) or "none", "Install openvino or onnxruntime there.", "serve"
        ),
    ]


def check_server(server_env: Path) -> Finding:
    """Check the server's binary, stub and libpython, and start the binary on this machine."""
    try:
        runtime = find_runtime(server_env)
    except ConfigError as error:
        return Finding("tritonserver", False, str(error), "Make the server environment again: make setup.", "serve")
    fix = "Its libraries do not fit this machine (glibc 2.35 or newer is needed). Look at `ldd` of the file."
    libraries = os.pathsep.join(str(path) for path in runtime.library_dirs)
    try:
        # The stub says how to use it and ends with 1; the loader's own failure is 127.
        for program, good in ((runtime.tritonserver, (0, 1)), (runtime.stub, (0, 1))):
            arguments = [str(program), "--help"]
            answer = subprocess.run(
                arguments, env={"LD_LIBRARY_PATH": libraries}, capture_output=True, timeout=30, check=False
            )
            if answer.returncode not in good:
                words = answer.stderr.decode(errors="replace").strip().splitlines() or [f"exit {answer.returncode}"]
                return Finding("tritonserver", False, f"{program.name}: {words[-1]}", fix, "serve")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("tritonserver", False, str(error), fix, "serve")
    package = runtime.packages["nvidia-pytriton"]
    minor = runtime.stub.parent.name
    return Finding(
        "tritonserver", True, f"nvidia-pytriton {package}, stub and libpython for {minor}", needed_for="serve"
    )


def check_installed_server(home: Path | None) -> Finding:
    """Check a whole server, as NVIDIA's image has it: that it runs, its version, the backends that builds need."""
    name, fix = "NVIDIA's server", f"Name its home with {PREFIX}TRITONSERVER; {IMAGE_HOME} in NVIDIA's image."
    if home is None:
        return Finding(name, False, "none named", fix, ENGINE_SERVING)
    present = installed_backends(home)
    missing = [backend for backend in BACKENDS.values() if backend not in present]
    try:
        program = installed_program(home, next((each for each in BACKENDS.values() if each in present), "python"), home)
        known_flags(program, {"LD_LIBRARY_PATH": os.pathsep.join(program.library_dirs)})
    except ConfigError as error:
        return Finding(name, False, str(error), fix, ENGINE_SERVING)
    found = f"{installed_version(home)} in {home}; backends: {', '.join(present)}"
    lacks = f"; lacks {', '.join(missing)}" if missing else ""
    return Finding(name, not missing, found + lacks, "Take NVIDIA's full image (the one tagged -py3).", ENGINE_SERVING)


def check_cards(driver: Driver | None = None) -> list[Finding]:
    """Check driver, cards, memory and the packages for serving on a GPU; the driver is this machine's by default."""
    seen = (installed_driver() if driver is None else driver).look()
    tensorrt = _version("tensorrt")
    return diagnose(
        seen,
        installed_torch(),
        find_provider(),
        None if tensorrt == "missing" else tensorrt,
        count_hardware(),
        shutil.which("cc") or shutil.which("gcc"),
    )


def check_shared_memory(build: Path | None = None) -> Finding:
    """Check how much shared memory is free for the stages, of a build where there is one."""
    fix = "In a container, give it more: --shm-size 1g."
    needed = ENOUGH_SHARED_MEMORY
    if build is not None:
        with contextlib.suppress(ConfigError):
            on_cards = read_manifest(build).needs_gpu
            needed = needed_bytes(build / "models", DEFAULT_REGION_BYTES, DEFAULT_REGION_BYTES, on_cards=on_cards)
    try:
        free = free_bytes()
    except OSError as error:
        return Finding("shared memory", False, f"{FOLDER}: {error.strerror}", fix, "serve")
    found = f"{free >> 20} MiB free in {FOLDER}, {needed >> 20} needed"
    return Finding("shared memory", free >= needed, found, fix, "serve")


def check_open_files() -> Finding:
    """Check how many files the server may open, each connection being one."""
    found = hard_limit()
    return Finding("open files", not shortage(found), f"{found} allowed, {NEEDED} needed", shortage(found), "serve")


def check_port(port: int) -> Finding:
    """Check that the server could listen on a port."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError as error:
            found = error.strerror or "in use"
            return Finding(
                f"port {port}",
                False,
                found,
                "End its holder, or choose others with --grpc-port, --metrics-port.",
                "serve",
            )
    return Finding(f"port {port}", True, "free", needed_for="serve")


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Check what the processor can do; an older one is slower, not wrong."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    has = [f"{name} ({use})" for name, use in CPU_FEATURES.items() if name in flags]
    cores = len(os.sched_getaffinity(0))
    return Finding(
        "cpu",
        "avx2" in flags,
        f"{cores} cores; {', '.join(has) or 'no vector features known'}",
        "Serving works, but slowly. Use an x86-64 processor with AVX2, better AVX-512.",
        "speed",
    )


def check_export_packages() -> list[Finding]:
    """Look for the packages that make a build, without importing them: importing torch takes seconds."""
    findings = []
    for name in ("torch", "sam2", "onnx"):
        present = importlib.util.find_spec(name) is not None
        findings.append(Finding(name, present, "present" if present else "missing", "make setup", "export"))
    return findings


def check_engine_packages() -> list[Finding]:
    """Look for the packages that build engines, without importing them: each loads gigabytes."""
    findings = []
    for name, (fix, target) in ENGINE_PACKAGES.items():
        present = importlib.util.find_spec(name) is not None
        findings.append(Finding(name, present, _version(name), fix, f"export --target {target}"))
    return findings


def _version(name: str) -> str:
    """Of an importable package, whatever its distribution is called."""
    for distribution in importlib.metadata.packages_distributions().get(name, []):
        return importlib.metadata.version(distribution)
    return "present" if importlib.util.find_spec(name) else "missing"


def check_video() -> Finding:
    """Check that PyAV has an H.264 encoder, which writes overlays as video."""
    fix = "Reinstall PyAV from its wheel: pip install --force-reinstall av."
    try:
        import av.codec  # loads FFmpeg, so only when asked

        av.codec.Codec("h264", "w")
    except ImportError as error:
        return Finding("video", False, f"PyAV does not load: {error}", fix, "video")
    except ValueError:  # PyAV's UnknownCodecError is one
        return Finding("video", False, "PyAV has no H.264 encoder", fix, "video")
    return Finding("video", True, "PyAV with an H.264 encoder", needed_for="video")


def check_build(build: Path | None) -> Finding:
    """Check the manifest and the files of a build."""
    fix = "Make one: auralsam2 export."
    if build is None:
        return Finding(BUILD, False, "none named", fix, "serve")
    try:
        manifest = read_manifest(build)
        # Raises for engines that no server loads.
        _ = manifest.backend
        if manifest.target == "tensorrt":
            check_engines(build, find_gpus())
        verify_files(build, manifest)
    except ConfigError as error:
        return Finding(BUILD, False, str(error), fix, "serve")
    return Finding(
        BUILD,
        True,
        f"{manifest.name}, {manifest.engine} {manifest.precision}; {manifest.weights}",
        needed_for="serve",
    )

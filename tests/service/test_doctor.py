import socket
import sys
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import doctor
from service.config import ServerConfig
from service.errors import ConfigError
from service.runtime import find_runtime
from tests.service.toy import build_folder as toy
from tests.service.toy.running import free_ports


def names(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_can_serve(tmp_path: Path) -> None:
    ports = tuple(free_ports(2))
    found = names(doctor.examine(toy.write(tmp_path / "build"), ports=ports))
    for name in ("python", "server environment", "numpy of the server", "engine", "tritonserver", "build", "video"):
        assert found[name].ok, found[name]
    for port in ports:
        assert found[f"port {port}"].ok
    assert "toy-32-t2" in found["build"].found
    assert {"shared memory", "cpu", "torch", "sam2", "onnx"} <= set(found)


def test_whatever_is_missing_has_a_fix(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "build", tmp_path / "env", ports=tuple(free_ports(1)))
    found = names(findings)
    assert not found["server environment"].ok
    assert not found["tritonserver"].ok
    assert not found["build"].ok
    for finding in findings:
        assert finding.ok or finding.fix, finding


def test_nothing_is_imported_to_look_for_it() -> None:
    before = set(sys.modules)
    doctor.check_export_packages()
    assert not {"torch", "sam2", "onnx"} & (set(sys.modules) - before)


def test_a_port_in_use_is_seen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not doctor.check_port(taken.getsockname()[1]).ok


@pytest.mark.parametrize(("version", "ok"), [("1.26.4", True), ("2.2.0", False), (None, False)])
def test_numpy_2_of_the_server_is_found(monkeypatch: pytest.MonkeyPatch, version: str | None, ok: bool) -> None:
    record: dict[str, Any] = {
        "version": "3.11.7",
        "packages": {"numpy": version, "openvino": None, "onnxruntime": None},
    }
    monkeypatch.setattr(doctor, "probe", lambda server_env: record)
    found = names(doctor.check_server_env(Path("/env")))
    assert found["numpy of the server"].ok is ok
    assert not found["engine"].ok


def test_small_shared_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    finding = doctor.check_shared_memory()
    assert not finding.ok
    assert "64 MiB" in finding.found
    assert "--shm-size" in finding.fix


def test_cpu_features_are_read(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n")
    finding = doctor.check_cpu(cpuinfo)
    assert finding.ok
    assert "bfloat16" in finding.found
    assert "int8" not in finding.found
    assert not doctor.check_cpu(tmp_path / "none").ok


def test_a_server_that_does_not_load_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho error while loading shared libraries: libfoo >&2\nexit 127\n")
    program.chmod(0o755)
    runtime = SimpleNamespace(tritonserver=program, stub=program, library_dirs=(), packages={})
    monkeypatch.setattr(doctor, "find_runtime", lambda server_env: runtime)
    finding = doctor.check_server(tmp_path)
    assert not finding.ok
    assert "libfoo" in finding.found


def test_the_runtime_of_this_machine_is_found_whole() -> None:
    runtime = find_runtime(ServerConfig(Path("build")).server_env)
    assert runtime.stub.parent.name == ".".join(runtime.python_version.split(".")[:2])
    assert list(runtime.library_dirs[0].glob("libpython3*.so.1.0"))


def test_an_environment_without_the_server_is_named(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    with pytest.raises(ConfigError, match="nvidia-pytriton"):
        find_runtime(tmp_path / "env")

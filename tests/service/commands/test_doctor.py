import json
import re
import socket
import sys
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from auralsam2_client.contract import BUILD_FORMAT
from auralsam2_client.errors import ConfigError
from service.commands import doctor
from service.commands.cli import app
from service.findings import Finding
from service.server.config import ServerConfig
from service.server.runtime import find_runtime
from service.server.serving import free_ports
from tests.service.cards.stand_in_driver import H200, L4, NO_DRIVER, StandInDriver, seeing
from tests.service.toy import build_folder as toy
from tests.service.toy.installed import card, on_path, program, write_gpu_build, write_home, write_smi


def names(findings: list[Finding]) -> dict[str, Finding]:
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


def test_every_command_that_a_fix_names_exists(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    # The texts themselves, since a machine shows only some of them.
    for module in ("commands/doctor", "server/runtime", "cards/torch_build"):
        text = (root / "service" / f"{module}.py").read_text()
        named = set(re.findall(r"make ([a-z0-9-]+)(?: [A-Z]+=\w+)?[`.,\"]", text))
        assert "setup" in named
        assert named <= targets


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
        "libdirs": ["/nowhere"],
        "packages": {"numpy": version, "openvino": None, "onnxruntime": None},
    }
    monkeypatch.setattr(doctor, "probe", lambda server_env: record)
    found = names(doctor.check_server_env(Path("/env")))
    assert found["numpy of the server"].ok is ok
    assert not found["engine"].ok
    # The stages' stub loads it, on a CPU as on a card.
    assert not found["libpython of the server"].ok
    assert "libpython3.11.so.1.0 is in neither of /nowhere" in found["libpython of the server"].found


def test_small_shared_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda: 64 << 20)
    finding = doctor.check_shared_memory()
    assert not finding.ok
    assert "64 MiB" in finding.found
    assert "--shm-size" in finding.fix


def test_the_need_of_shared_memory_is_the_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    # Four stages of 4 MiB, and a little.
    for free, ok in ((16 << 20, False), (17 << 20, True)):
        monkeypatch.setattr(doctor, "free_bytes", lambda free=free: free)
        assert doctor.check_shared_memory(build).ok is ok


def test_too_few_open_files_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, ok in ((1024, False), (524288, True)):
        monkeypatch.setattr(doctor, "hard_limit", lambda allowed=allowed: allowed)
        finding = doctor.check_open_files()
        assert (finding.ok, finding.needed_for) == (ok, "serve")
        assert str(allowed) in finding.found
        assert ok or "LimitNOFILE" in finding.fix


def test_cpu_features_are_read(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n")
    finding = doctor.check_cpu(cpuinfo)
    assert finding.ok
    assert "bfloat16" in finding.found
    assert "int8" not in finding.found
    assert not doctor.check_cpu(tmp_path / "none").ok


def test_what_a_machine_without_gpu_lacks_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "count_hardware", lambda: 0)
    found = names(doctor.check_cards(StandInDriver(NO_DRIVER)))
    assert set(found) == {"gpu driver", "gpu", "torch for a gpu", "C compiler", "TensorRT of ONNX Runtime"}
    for finding in found.values():
        assert finding.ok
        assert "not needed on a CPU" in finding.found
    # Needed for one thing, not for all: the command ends well.
    finding = doctor.check_installed_server(None)
    assert not finding.ok
    assert finding.needed_for == "serving TensorRT and ONNX Runtime on GPUs"
    assert "AURALSAM2_TRITONSERVER" in finding.fix


def test_an_installed_server_is_told_with_version_and_backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "onnxruntime")
    monkeypatch.setenv("AURALSAM2_TRITONSERVER", str(home))
    finding = names(doctor.examine(tmp_path / "build", tmp_path / "env", ports=()))["NVIDIA's server"]
    assert not finding.ok
    assert finding.found == f"2.75.0 in {home}; backends: onnxruntime, python; lacks tensorrt"
    (home / "backends" / "tensorrt").mkdir()
    finding = doctor.check_installed_server(home)
    assert finding.ok
    assert finding.found.endswith("backends: onnxruntime, python, tensorrt")


def test_an_installed_server_that_does_not_run_is_quoted(tmp_path: Path) -> None:
    finding = doctor.check_installed_server(tmp_path)
    assert not finding.ok
    assert str(tmp_path / "bin" / "tritonserver") in finding.found
    home = write_home(tmp_path / "home")
    program(home / "bin" / "tritonserver", "#!/bin/sh\necho libcudart.so.13: not found >&2\nexit 127\n")
    finding = doctor.check_installed_server(home)
    assert not finding.ok
    assert "libcudart.so.13" in finding.found


def test_cards_are_listed() -> None:
    found = names(doctor.check_cards(StandInDriver(seeing(L4, H200))))
    assert found["gpu"].ok
    assert found["gpu"].found == (
        "NVIDIA L4 (compute capability 8.9), 20480 MiB free of 22528;"
        " NVIDIA H200 (compute capability 9.0), 133120 MiB free of 142336"
    )


def test_builders_of_engines_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = names(doctor.check_engine_packages())
    assert set(found) == {"tensorrt", "tensorrt_rtx"}
    for name, target in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        assert not found[name].ok
        assert found[name].fix.startswith(("pip install tensorrt-rtx", "pip install -r requirements/tensorrt.txt"))
        assert found[name].needed_for == f"export --target {target}"


def test_engines_of_another_card_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    build = write_gpu_build(tmp_path / "build", "tensorrt")
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path, card())))
    assert doctor.check_build(build).ok
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path, card(name="NVIDIA T4", capability="7.5"))))
    finding = doctor.check_build(build)
    assert not finding.ok
    assert "was built for NVIDIA L4" in finding.found


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


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_doctor_ends_with_3_where_a_build_that_is_named_cannot_be_served(tmp_path: Path) -> None:
    absent = run("doctor", "--build", tmp_path / "absent")
    assert absent.exit_code == 3
    # The table breaks its lines where the terminal is narrow.
    assert "is not a build. Make one: auralsam2 export." in doctor.check_build(tmp_path / "absent").found
    assert run("doctor").exit_code in (0, 1), "before the first export there is none"


def test_engines_that_no_server_loads_are_said_to_be_that(tmp_path: Path) -> None:
    record = {"format": BUILD_FORMAT, "name": "rtx", "preset": "compact", "image_size": 256, "num_frames": 5}
    record |= {"precision": "float16", "engine": "onnxruntime", "weights": "w", "files": {}, "target": "tensorrt-rtx"}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    served = run("serve", "--build", tmp_path)
    assert served.exit_code == 3
    words = " ".join(served.output.split())
    assert "engines for tensorrt-rtx, which no server loads" in words
    assert "export with --target cpu" in words
    assert "tritonserver" not in words, "another server would not help"
    assert run("doctor", "--build", tmp_path).exit_code == 3

"""What an installed server is not started for: a build, a home or a card that does not fit, named with the way out."""

from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError, ServerFault
from service.server.config import ServerConfig
from service.server.guardian import processes_of
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.installed import (
    card,
    on_path,
    program,
    without_smi,
    write_engine,
    write_gpu_build,
    write_smi,
)
from tests.service.toy.running import toy_config

pytestmark = pytest.mark.usefixtures("one_l4")


def refused(config: ServerConfig, words: str) -> None:
    launcher = Launcher(config, sink=lambda line: None)
    with pytest.raises(ConfigError, match=words):
        launcher.start()
    assert processes_of(launcher.mark) == []


@pytest.mark.parametrize("target", ["onnx-gpu", "tensorrt"])
def test_a_gpu_build_needs_an_installed_server(tmp_path: Path, target: str) -> None:
    build = write_gpu_build(tmp_path / "build", target)
    words = rf"exported for {target}: a GPU build needs .* --tritonserver or AURALSAM2_TRITONSERVER \(/opt/tritonserver"
    refused(toy_config(build, tritonserver=None), words + ".*--target cpu")


def test_a_target_that_no_server_loads(home: Path, tmp_path: Path) -> None:
    build = write_gpu_build(tmp_path / "build", "tensorrt-rtx")
    refused(
        toy_config(build, tritonserver=home),
        "toy-32-t2 holds engines for tensorrt-rtx, which no server loads.*onnx-gpu, tensorrt",
    )


def test_a_home_without_a_server_is_named(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    binary = tmp_path / "home" / "bin" / "tritonserver"
    refused(
        toy_config(build, tritonserver=tmp_path / "home"), rf"{binary} is missing or not executable; --tritonserver"
    )
    binary.parent.mkdir(parents=True)
    binary.touch()
    refused(toy_config(build, tritonserver=tmp_path / "home"), rf"{binary} is missing or not executable")


@pytest.mark.parametrize(
    ("target", "backend"), [("cpu", "python"), ("onnx-gpu", "onnxruntime"), ("tensorrt", "tensorrt")]
)
def test_a_missing_backend_is_named(tmp_path: Path, target: str, backend: str) -> None:
    home = tmp_path / "home"
    program(home / "bin" / "tritonserver", "#!/bin/sh\n")
    (home / "backends" / "fil").mkdir(parents=True)
    build = write_gpu_build(tmp_path / "build", target)
    words = rf"{home / 'backends' / backend} is missing, .*; the server has fil\. "
    refused(toy_config(build, tritonserver=home), words)


def test_a_gpu_build_without_a_gpu(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", without_smi())
    build = write_gpu_build(tmp_path / "build", "onnx-gpu")
    refused(toy_config(build, tritonserver=home), "target onnx-gpu needs an NVIDIA GPU and none is seen")


def test_a_card_that_is_too_small(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path / "small", card(mebibytes=64))))
    build = write_gpu_build(tmp_path / "build", "onnx-gpu")
    refused(toy_config(build, tritonserver=home), r"GPU 0, NVIDIA L4, has 64 MiB, and at least 65 MiB are needed")


def test_engines_of_another_card(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path / "h200", card(name="NVIDIA H200", capability="9.0"))))
    build = write_gpu_build(tmp_path / "build", "tensorrt")
    words = r"was built for NVIDIA L4 .*, and GPU 0 is NVIDIA H200 .*auralsam2 engines --build"
    refused(toy_config(build, tritonserver=home), words)


def test_an_engine_that_was_altered_is_told_by_its_hash(home: Path, tmp_path: Path) -> None:
    build = write_gpu_build(tmp_path / "build", "tensorrt")
    engine = build / "models" / "hiera" / "1" / "model.plan"
    engine.write_bytes(b"ENGINE")
    refused(
        toy_config(build, tritonserver=home),
        rf"hiera/1/model\.plan is not the file .*auralsam2 engines --build {build}",
    )
    write_engine(engine, build_seconds=2.0)
    refused(
        toy_config(build, tritonserver=home),
        rf"hiera/1/model\.plan\.json is not the file .*auralsam2 engines --build {build}",
    )


def test_nothing_about_cuda_is_hidden_where_a_gpu_is_needed(tmp_path: Path) -> None:
    """The embedded server says such things on every start without a GPU; on a GPU they are the cause."""
    home = tmp_path / "home"
    (home / "backends" / "onnxruntime").mkdir(parents=True)
    (home / "backends" / "python").mkdir()
    said = "E0101 10:00:00.000000 1 model.cc:1] CUDA driver version is insufficient for CUDA runtime version"
    program(
        home / "bin" / "tritonserver",
        f"#!/bin/sh\n[ \"$1\" = --help ] && echo '  --model-repository <string>' && exit 1\n"
        f"echo '{said}'\necho 'E0101 10:00:00.000000 1 main.cc:1] failed'\nexit 1\n",
    )
    found = {}
    for target in ("onnx-gpu", "cpu"):
        build = write_gpu_build(tmp_path / target, target)
        with pytest.raises(ServerFault) as caught:
            Launcher(toy_config(build, tritonserver=home), sink=lambda line: None).start()
        found[target] = str(caught.value)
    assert said in found["onnx-gpu"]
    assert said not in found["cpu"]
    assert all("main.cc:1] failed" in words for words in found.values())


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    build = toy.write(tmp_path / "build")
    words = rf"{tmp_path / 'file' / 'cache'} cannot be made .*--cache-dir or AURALSAM2_CACHE_DIR"
    refused(toy_config(build, cache_dir=tmp_path / "file" / "cache"), words)

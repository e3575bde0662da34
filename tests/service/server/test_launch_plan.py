"""What is said and refused before a server is started."""

from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.server import launch_plan
from service.server.config import ServerConfig
from service.server.launch_plan import make_cache, plan_launch
from tests.service.toy import build_folder as toy
from tests.service.toy.installed import card, name_engine_cache, on_path, write_gpu_build, write_home, write_smi


def test_a_cache_that_cannot_be_written_is_told_and_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = ServerConfig(toy.write(tmp_path / "build"))
    lines: list[str] = []
    make_cache(config, lines.append)
    assert lines == []
    # Root may write everywhere, but for what is mounted read-only.
    monkeypatch.setattr(launch_plan.os, "access", lambda path, mode: False)
    make_cache(config, lines.append)
    (line,) = lines
    assert f"{config.cache} cannot be written" in line
    assert "AURALSAM2_CACHE_DIR" in line


def test_a_cpu_build_on_the_embedded_server_has_nothing_to_say(tmp_path: Path) -> None:
    plan = plan_launch(ServerConfig(toy.write(tmp_path / "build")))
    assert (plan.notes, plan.memory_flags, plan.python_stages) == ((), (), True)


def test_a_gpu_build_whose_engines_have_nowhere_to_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", on_path(write_smi(tmp_path / "smi", card())))
    build, home = write_gpu_build(tmp_path / "build", "onnx-gpu"), write_home(tmp_path / "home", "onnxruntime")
    config = ServerConfig(build, tritonserver=home)
    assert plan_launch(config).memory_flags[0].startswith("--cuda-memory-pool-byte-size=0:")
    name_engine_cache(build, tmp_path / "var" / "hiera")
    with pytest.raises(ConfigError, match=r"keeps its engines in .*/var/hiera"):
        plan_launch(config)


def test_listening_beyond_this_machine_is_told(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    (note,) = plan_launch(ServerConfig(build, host="0.0.0.0")).notes
    assert "no authentication and published security holes" in note
    # Which holes an installed server has is a matter of its release.
    home = write_home(tmp_path / "home")
    _, note = plan_launch(ServerConfig(build, host="0.0.0.0", tritonserver=home)).notes
    assert "no authentication: let only a gateway" in note

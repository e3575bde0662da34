"""The builds that tests share: made once, named by what they are made from, and never half there."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import builds


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "export" / "__pycache__").mkdir(parents=True)
    (tmp_path / "export" / "stages.py").write_text("STAGES = 4\n")
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path


def digest(sources: Path, *versions: str) -> str:
    return builds.digest_of(sources, ("export", "weights.safetensors"), versions or ("torch 2.9",))


def test_compiled_python_does_not_count(sources: Path) -> None:
    before = digest(sources)
    (sources / "export" / "__pycache__" / "stages.cpython-311.pyc").write_bytes(b"compiled")
    assert digest(sources) == before


@pytest.mark.parametrize("changed", ["source", "name", "weights", "version"])
def test_whatever_makes_a_build_changes_its_digest(sources: Path, changed: str) -> None:
    before, versions = digest(sources), ["torch 2.9"]
    if changed == "source":
        (sources / "export" / "stages.py").write_text("STAGES = 5\n")
    elif changed == "name":
        (sources / "export" / "stages.py").rename(sources / "export" / "parts.py")
    elif changed == "weights":
        (sources / "weights.safetensors").write_bytes(b"others")
    else:
        versions = ["torch 2.10"]
    assert digest(sources, *versions) != before


def test_every_maker_is_there() -> None:
    assert [maker for maker in builds.MAKERS if not (builds.REPOSITORY / maker).exists()] == []


def test_of_many_digests_the_newest_stay(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "second", "third", "oldest")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, ns=(10**9 * (10 - age),) * 2)
    builds.keep_newest(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "second"}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that were exported, into a folder of this test."""
    names: list[str] = []

    def export_stage(stage: Any, path: Path, *, inlined: bool) -> Path:
        names.append(stage.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        if stage.fails:
            raise KeyboardInterrupt
        path.write_bytes(b"half and half")
        return path

    monkeypatch.setattr(builds, "export_stage", export_stage)
    monkeypatch.setattr(builds, "_folder", lambda: tmp_path)
    return names


def test_a_graph_is_exported_once_however_many_ask(exported: list[str]) -> None:
    stage: Any = SimpleNamespace(name="hiera", fails=False)
    askers = [threading.Thread(target=builds.exported_once, args=("kind", [stage])) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert exported == ["hiera"]
    assert builds.exported_once("kind", [stage])["hiera"].read_bytes() == b"half and half"


def test_a_graph_that_was_not_finished_is_exported_again(exported: list[str]) -> None:
    stage: Any = SimpleNamespace(name="hiera", fails=True)
    with pytest.raises(KeyboardInterrupt):
        builds.exported_once("kind", [stage])
    stage.fails = False
    assert builds.exported_once("kind", [stage])["hiera"].read_bytes() == b"half and half"
    assert exported == ["hiera", "hiera"]


def test_a_build_is_made_once_and_without_what_a_killed_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over = tmp_path / f".{builds.SMALL.name}.partial-7"
    left_over.mkdir()
    made: list[str] = []

    def build_repository(settings: Any, build: Path) -> Path:
        assert not left_over.exists()
        made.append(settings.name)
        build.mkdir()
        return build

    monkeypatch.setattr(builds, "build_repository", build_repository)
    monkeypatch.setattr(builds, "_folder", lambda: tmp_path)
    assert [builds.built_once(builds.SMALL).name for _ in range(2)] == [builds.SMALL.name] * 2
    assert made == [builds.SMALL.name]


def test_what_a_server_leaves_is_not_in_the_build(tmp_path: Path) -> None:
    build = tmp_path / "compact"
    (build / "cache").mkdir(parents=True)
    (build / "manifest.json").write_text("{}")
    copy = builds.copy_to_serve(build, tmp_path / "served")
    (copy / "cache" / "compiled.blob").write_bytes(b"compiled")
    assert (copy / "manifest.json").read_text() == "{}"
    assert list((build / "cache").iterdir()) == []

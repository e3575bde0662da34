"""The build folder: the same for the same settings, and never half there."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from auralsam2.errors import CheckpointError, NetworkError
from auralsam2_client.contract import STAGE_NAMES
from export.builds import repository, served_precision
from export.builds.repository import build_repository
from export.errors import ExportError, ParityError
from export.settings import ExportSettings
from tests.export.builds.contents import contents


def test_the_folder_holds_what_the_server_loads_and_no_leftovers(small_build: Path) -> None:
    assert {path.name for path in small_build.iterdir()} == {"models", "golden.npz", "manifest.json", "cache"}
    assert {path.name for path in (small_build / "models").iterdir()} == {
        *STAGE_NAMES,
        "auralsam2",
        "auralsam2_features",
        "auralsam2_session",
    }
    for ensemble in ("auralsam2", "auralsam2_features"):
        assert (small_build / "models" / ensemble / "1").is_dir()
    assert not list(small_build.rglob("__pycache__"))
    assert not [path for path in small_build.parent.iterdir() if path.name.startswith(f".{small_build.name}")]


def test_a_build_holds_no_path_of_this_machine(small_build: Path) -> None:
    here = str(Path(repository.__file__).parents[2]).encode()
    for name, content in contents(small_build).items():
        assert here not in content, name
        assert str(small_build.parent).encode() not in content, name


@pytest.mark.usefixtures("ready_made")
def test_the_same_settings_give_the_same_bytes(
    small_settings: ExportSettings, small_build: Path, tmp_path: Path
) -> None:
    again = contents(build_repository(dataclasses.replace(small_settings), tmp_path / "elsewhere"))
    first = contents(small_build)
    assert set(again) == set(first)
    # The manifest holds seconds and, here, no rows of parity; the tolerances hold what the gate measured.
    assert {name for name in first if first[name] != again[name]} <= {"manifest.json", "golden.npz"}
    for name in ("auralsam2", *STAGE_NAMES):
        assert again[f"models/{name}/config.pbtxt"] == first[f"models/{name}/config.pbtxt"]
    assert json.loads(again["manifest.json"])["name"] == json.loads(first["manifest.json"])["name"]


@pytest.mark.usefixtures("ready_made")
def test_a_new_build_replaces_an_older_one_whole(copied_build: Path, small_settings: ExportSettings) -> None:
    (copied_build / "models" / "left_over").mkdir()
    (copied_build / "golden.npz").write_bytes(b"old")
    lines: list[str] = []
    assert build_repository(small_settings, copied_build, lines.append) == copied_build
    assert not (copied_build / "models" / "left_over").exists()
    with np.load(copied_build / "golden.npz") as golden:
        assert golden["FRAMES"].shape == (2, 224, 224, 3)
    assert [path.name for path in copied_build.parent.iterdir()] == [copied_build.name]
    assert small_settings.name in lines[0]
    assert str(copied_build) in lines[-1]


@pytest.mark.usefixtures("ready_made")
@pytest.mark.parametrize(
    ("module", "step"),
    [
        (repository, "export_graphs"),
        (served_precision, "pass_gate"),
        (repository, "write_models"),
        (repository, "manifest"),
    ],
)
def test_a_failure_in_the_middle_leaves_the_older_build_as_it_was(
    module: ModuleType, step: str, copied_build: Path, small_settings: ExportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copied_build)

    def fail(*arguments: object, **options: object) -> None:
        raise ParityError("hiera graph vs PyTorch: PATCHES_1")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(ParityError, match="PATCHES_1"):
        build_repository(small_settings, copied_build)
    assert contents(copied_build) == before
    assert [path.name for path in copied_build.parent.iterdir()] == [copied_build.name]


@pytest.mark.usefixtures("ready_made")
def test_a_failure_leaves_nothing_where_nothing_was(
    small_settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(served_precision, "pass_gate", fail)
    with pytest.raises(KeyboardInterrupt):
        build_repository(small_settings, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("ready_made")
def test_a_rename_that_fails_puts_the_older_build_back(
    copied_build: Path, small_settings: ExportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = contents(copied_build), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no space left"):
        build_repository(small_settings, copied_build)
    assert contents(copied_build) == before
    assert [path.name for path in copied_build.parent.iterdir()] == [copied_build.name]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_build_is_not_replaced(kind: str, small_settings: ExportSettings, tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter_1.tex").write_text("years of work")
    else:
        target.write_text("years of work")
    with pytest.raises(ExportError, match=r"thesis is not a build folder .*Name another folder"):
        build_repository(small_settings, target)
    assert "years of work" in [path.read_text() for path in (target, *target.rglob("*")) if path.is_file()]


@pytest.mark.usefixtures("ready_made")
def test_an_empty_folder_and_a_link_to_a_build_can_be_the_target(
    small_settings: ExportSettings, copied_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    build_repository(small_settings, tmp_path / "empty")
    assert (tmp_path / "empty" / "manifest.json").is_file()
    link = tmp_path / "current"
    link.symlink_to(copied_build, target_is_directory=True)
    (copied_build / "golden.npz").write_bytes(b"old")
    build_repository(small_settings, link)
    assert link.is_symlink()
    assert (copied_build / "golden.npz").stat().st_size > 100


def test_a_checkpoint_that_is_missing_is_told_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "export_graphs", lambda *arguments: pytest.fail("exporting has begun"))
    with pytest.raises(NetworkError, match=r"absent\.pth: no such file"):
        build_repository(ExportSettings(checkpoint=str(tmp_path / "absent.pth")), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_class_head_that_is_missing_is_told_before_anything_is_exported(
    small_settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*arguments: object) -> None:
        raise AssertionError("graphs were exported")

    monkeypatch.setattr(repository, "export_graphs", export)
    settings = dataclasses.replace(small_settings, classes=True, class_head=str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such file"):
        build_repository(settings, tmp_path / "build")

"""The build folder: complete, proven, the same for the same settings, and never half there."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.readout import NO_OBJECT_LOGIT
from auralsam2_client.contract import BUILD_FORMAT, STAGE_NAMES
from export.builds import repository, served_precision
from export.builds.golden import golden_tolerance
from export.builds.repository import build_repository
from export.builds.triton_config import parse
from export.errors import ExportError, ParityError
from export.gates.parity import Array
from export.gates.stage_gate import Passed
from export.graphs.onnx_graph import OPSET
from export.graphs.prompt_graphs import prompt_stages
from export.graphs.stages import Stage
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import engines as engine

PROMPT_GRAPHS = ("prompt_decode", "memory_write", "memory_prepare", "memory_read_1")


@pytest.fixture(scope="module")
def manifest(small_build: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((small_build / "manifest.json").read_text())
    return record


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_says_what_was_built(manifest: dict[str, Any], small_settings: ExportSettings) -> None:
    wanted = {
        "format": BUILD_FORMAT,
        "name": "compact-224-t2-float32",
        "preset": "compact",
        "image_size": 224,
        "num_frames": 2,
        "conditioning_frame": 0,
        "read_out": "iou_occlusion",
        "engine": "openvino",
        "precision": "float32",
        "weights": small_settings.weights_sentence,
        "checkpoint_sha256": hashlib.sha256(Path(small_settings.weights_file or "").read_bytes()).hexdigest(),
        "sam2_checkpoint_sha256": None,
        "opset": OPSET,
    }
    assert {key: manifest[key] for key in wanted} == wanted
    assert {"python", "torch", "sam2", "onnx", "onnxruntime", "openvino", "numpy"} <= set(manifest["versions"])
    assert all(manifest["versions"].values())
    assert set(manifest["export_seconds"]) == {*STAGE_NAMES, "prompts"}


def test_every_file_is_listed_with_its_true_hash(manifest: dict[str, Any], small_build: Path) -> None:
    found = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in contents(small_build).items()
        if name != "manifest.json"
    }
    assert manifest["files"] == found
    assert "golden.npz" in found
    for stage in STAGE_NAMES:
        for file in (
            "config.pbtxt",
            "1/model.onnx",
            "1/model.py",
            "1/stage_runtime/adapter.py",
            "1/auralsam2_client/contract.py",
        ):
            assert f"models/{stage}/{file}" in found
    for file in ("config.pbtxt", "1/model.py", "1/stage_runtime/sessions/adapter.py"):
        assert f"models/auralsam2_session/{file}" in found
    for file in (*(f"{name}.onnx" for name in PROMPT_GRAPHS), "prompted.weights", "prompted.json"):
        assert f"models/sam2_decoder/1/{file}" in found


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


def test_every_output_was_measured(
    manifest: dict[str, Any], small_stages: tuple[Stage, ...], small_model: AuralSAM2
) -> None:
    rows = {(row["stage"], row["output"]): row for row in manifest["parity"]}
    prompt_graphs = prompt_stages(small_model, 2)
    assert tuple(stage.name for stage in prompt_graphs) == PROMPT_GRAPHS
    outputs = {(stage.name, spec.name) for stage in (*small_stages, *prompt_graphs) for spec in stage.outputs}
    outputs |= {("prompts", spec.name) for spec in small_stages[-1].outputs}
    assert set(rows) == outputs | {("auralsam2", "MASK_LOGITS"), ("stages in PyTorch", "MASK_LOGITS")}
    for (_, output), row in rows.items():
        assert 0 <= row["relative_rms"] < 2e-2
        assert row["max_abs"] >= 0
        assert ("mask_agreement" in row) == output.endswith("LOGITS")
    assert rows["auralsam2", "MASK_LOGITS"]["mask_agreement"] >= 0.999


def test_the_golden_clip_is_the_networks_answer(small_build: Path, small_stages: tuple[Stage, ...]) -> None:
    with np.load(small_build / "golden.npz", allow_pickle=False) as golden:
        assert golden["FRAMES"].shape == (2, 224, 224, 3)
        assert golden["AUDIO"].shape == (2, 15600, 2)
        for spec in small_stages[-1].outputs:
            assert golden[spec.name].shape == spec.shape
            assert golden[spec.name].dtype == np.float32
            assert np.isfinite(golden[spec.name]).all()
            assert 0 < golden[f"TOLERANCE_{spec.name}"] < 0.5 * max(1.0, float(np.abs(golden[spec.name]).max()))


def test_a_build_holds_no_path_of_this_machine(small_build: Path) -> None:
    here = str(Path(repository.__file__).parents[2]).encode()
    for name, content in contents(small_build).items():
        assert here not in content, name
        assert str(small_build.parent).encode() not in content, name


def passed(network: Array, graphs: Array) -> Passed:
    return Passed([], {"MASK_LOGITS": network}, {"MASK_LOGITS": graphs})


def test_the_golden_tolerance_does_not_count_empty_masks() -> None:
    """One empty frame of -1024 would make the spread, and with it the tolerance, hundreds of logits wide."""
    seen = np.random.default_rng(0).normal(0, 3, (1, 8, 8)).astype(np.float32)
    with_empty = np.concatenate([seen, np.full((1, 8, 8), NO_OBJECT_LOGIT, np.float32)])
    alone = golden_tolerance(passed(seen, seen), "MASK_LOGITS")
    assert golden_tolerance(passed(with_empty, with_empty), "MASK_LOGITS") == alone
    assert alone == pytest.approx(0.02 * seen.std())


def test_the_golden_tolerance_is_positive_where_every_mask_is_empty() -> None:
    empty = np.full((2, 4, 4), NO_OBJECT_LOGIT, np.float32)
    assert 0 < golden_tolerance(passed(empty, empty), "MASK_LOGITS") < 1


def test_the_golden_tolerance_grows_with_what_was_measured() -> None:
    seen = np.random.default_rng(0).normal(0, 3, (1, 8, 8)).astype(np.float32)
    assert golden_tolerance(passed(seen, seen + np.float32(0.5)), "MASK_LOGITS") == pytest.approx(5.0, rel=1e-5)


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
@pytest.mark.parametrize(
    ("has_bfloat16", "passes", "served"), [(True, True, "auto"), (True, False, "float32"), (False, True, "float32")]
)
def test_auto_serves_bfloat16_only_where_it_passed(
    has_bfloat16: bool,
    passes: bool,
    served: str,
    small_settings: ExportSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remembered, tried, lines = served_precision.pass_gate, [], list[str]()

    def gate(settings: object, model: object, stages: object, load: object, precision: str, *rest: object) -> Passed:
        tried.append(precision)
        if precision == "bfloat16" and not passes:
            raise ParityError("hiera graph vs PyTorch: PATCHES_1 relative RMS 6.0e-01")
        return remembered(settings, model, stages, load, precision, *rest)

    monkeypatch.setattr(served_precision, "pass_gate", gate)
    monkeypatch.setattr(engine, "openvino_capabilities", lambda: ["FP32", *["BF16"] * has_bfloat16])
    settings = dataclasses.replace(small_settings, precision="auto")
    build = build_repository(settings, tmp_path / "build", lines.append)
    assert tried == (["bfloat16"] if has_bfloat16 else []) + (["float32"] if served == "float32" else [])
    assert json.loads((build / "manifest.json").read_text())["precision"] == served
    for name in STAGE_NAMES:
        config = parse((build / "models" / name / "config.pbtxt").read_text())
        assert config.parameters["precision"].string_value == served
    told = [line for line in lines if "float32 instead of bfloat16" in line and "6.0e-01" in line]
    assert len(told) == (has_bfloat16 and not passes)


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
    with pytest.raises(ExportError, match=r"thesis is no build folder .*Name another folder"):
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


@pytest.mark.usefixtures("ready_made")
def test_both_checkpoints_are_proven_by_their_hashes(
    small_settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuser, sam2 = tmp_path / "v1m.pth", tmp_path / "sam2.pt"
    fuser.write_bytes(b"fuser")
    sam2.write_bytes(b"sam2")
    settings = dataclasses.replace(small_settings, checkpoint=str(fuser), sam2_checkpoint=str(sam2))
    record = json.loads((build_repository(settings, tmp_path / "new") / "manifest.json").read_text())
    assert record["checkpoint_sha256"] == hashlib.sha256(b"fuser").hexdigest()
    assert record["sam2_checkpoint_sha256"] == hashlib.sha256(b"sam2").hexdigest()
    assert record["name"] == "compact-224-t2-v1m-sam2-float32"


@pytest.mark.parametrize("error", [ExportError("a"), ParityError("b")])
def test_errors_survive_the_way_back_from_a_worker(error: ExportError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)

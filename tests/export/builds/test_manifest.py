"""The manifest of a build says what was built, of what, and how well; every file is there with its hash."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from auralsam2 import AuralSAM2
from auralsam2.checkpoints import TRAINED_ON
from auralsam2.stages.clip_stages import Stage
from auralsam2.stages.prompt_stages import prompt_stages
from auralsam2_client.contract import BUILD_FORMAT, PROCEDURAL_WORLD, STAGE_NAMES
from export.builds.repository import build_repository
from export.graphs.onnx_graph import OPSET
from export.settings import ExportSettings
from tests.export.builds.contents import contents

PROMPT_GRAPHS = ("prompt_decode", "memory_write", "memory_prepare", "memory_read_1")


@pytest.fixture(scope="module")
def manifest(small_build: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((small_build / "manifest.json").read_text())
    return record


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
        "trained_on": PROCEDURAL_WORLD,
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


@pytest.mark.usefixtures("ready_made")
def test_both_checkpoints_are_proven_by_their_hashes(
    small_settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuser, sam2 = tmp_path / "v1m.pth", tmp_path / "sam2.pt"
    save_file({"fuser": np.zeros(1, np.float32)}, fuser, metadata={TRAINED_ON: "AVSBench V1M"})
    sam2.write_bytes(b"sam2")
    settings = dataclasses.replace(small_settings, checkpoint=str(fuser), sam2_checkpoint=str(sam2))
    record = json.loads((build_repository(settings, tmp_path / "new") / "manifest.json").read_text())
    assert record["checkpoint_sha256"] == hashlib.sha256(fuser.read_bytes()).hexdigest()
    assert record["trained_on"] == "AVSBench V1M"
    assert record["sam2_checkpoint_sha256"] == hashlib.sha256(b"sam2").hexdigest()
    assert record["name"] == "compact-224-t2-v1m-sam2-float32"

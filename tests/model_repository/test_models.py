"""Every stage's model.py as the server loads it: from the `1/` folder of a filled build, and from nowhere else."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

import model_repository
from auralsam2_client.contract import SMALL_MASKS

from .conftest import forget_runtime

# Of outputs that are no float32.
DTYPES = {"PROMPT_MODE": np.object_, "BUILD_INFO": np.object_, "TICKET": np.uint8}
STAGES = ("vggish", "hiera", "aural_fuser", "sam2_decoder")
# What is behind each model.py, by its module in the runtime.
CLASSES = {
    "vggish": ("adapter", "SoundModel"),
    "hiera": ("adapter", "ImageModel"),
    "aural_fuser": ("text.model", "FuserModel"),
    "sam2_decoder": ("adapter", "DecoderModel"),
    "auralsam2_session": ("sessions.adapter", "SessionModel"),
}


@pytest.fixture
def load(small_build: Path, tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """The module of a stage's model.py, imported as the server does: its folder first on the path, one process each."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load_model(stage: str) -> Any:
        folder = Path(shutil.copytree(small_build / "models" / stage, tmp_path / stage)) / "1"
        forget_runtime()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            spec = importlib.util.spec_from_file_location(f"model_of_{stage}", folder / "model.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return module

    return load_model


@pytest.mark.parametrize("stage", CLASSES)
def test_a_model_is_the_thin_class(stage: str, load: Callable[[str], Any], tmp_path: Path) -> None:
    module = load(stage)
    model = module.TritonPythonModel
    (base,) = model.__bases__
    module_name, class_name = CLASSES[stage]
    assert (base.__module__, base.__name__) == (f"stage_runtime.{module_name}", class_name)
    assert not [name for name, value in vars(model).items() if callable(value)]
    runtime = Path(sys.modules["stage_runtime"].__file__ or "")
    assert runtime.is_relative_to(tmp_path / stage / "1")
    assert module.__doc__


@pytest.mark.parametrize("stage", CLASSES)
def test_the_copied_runtime_is_the_one_that_is_tested(stage: str, small_build: Path) -> None:
    source = Path(str(model_repository.__file__)).parent
    copied = small_build / "models" / stage / "1"
    names = {
        path.relative_to(source)
        for path in (source / "stage_runtime").rglob("*.py")
        if "pytorch" not in path.relative_to(source).parts
    }
    assert {path.relative_to(copied) for path in (copied / "stage_runtime").rglob("*") if path.is_file()} == names
    for name in names:
        assert (copied / name).read_bytes() == (source / name).read_bytes()
    assert (copied / "model.py").read_bytes() == (source / stage / "1" / "model.py").read_bytes()


def test_the_four_models_answer_the_golden_clip(
    small_build: Path, load: Callable[[str], Any], backend: Any, tmp_path: Path
) -> None:
    with np.load(small_build / "golden.npz") as file:
        golden = dict(file)
    wire = {name: golden[name] for name in ("FRAMES", "AUDIO")}
    for stage in STAGES:
        model = load(stage).TritonPythonModel()
        text = (tmp_path / stage / "config.pbtxt").read_text()
        message = text_format.Parse(text, model_config_pb2.ModelConfig())
        config = json_format.MessageToDict(message, preserving_proto_field_name=True)
        model.initialize(
            {
                "model_name": stage,
                "model_version": "1",
                "model_repository": str(tmp_path / stage),
                "model_config": json.dumps(config),
            }
        )
        taken = {"FRAMES", "AUDIO", "TICKET"}
        taken |= {entry["name"] for entry in config["input"] if not entry.get("optional")}
        inputs = {entry["name"]: wire[entry["name"]] for entry in config["input"] if entry["name"] in taken}
        outputs = [entry for entry in config["output"] if entry["name"] not in SMALL_MASKS]
        (response,) = model.execute([backend.request(inputs, [entry["name"] for entry in config["output"]])])
        assert response.error is None, response.error.message
        answer = response.arrays()
        assert set(answer) == {entry["name"] for entry in outputs}, "small masks are made where they are asked for"
        for entry in outputs:
            assert answer[entry["name"]].shape == tuple(int(dim) for dim in entry["dims"])
            assert answer[entry["name"]].dtype == DTYPES.get(entry["name"], np.float32)
        wire |= {name: value.copy() for name, value in answer.items()}
    for name in ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE"):
        assert np.abs(wire[name] - golden[name]).max() <= golden[f"TOLERANCE_{name}"], name
    assert not backend.log

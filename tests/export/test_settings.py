import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.data.world.shapes import SHAPES
from auralsam2.errors import CheckpointError, NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.shipped import shipped_weights
from auralsam2.presets import PRESETS
from auralsam2_client.contract import MAX_FRAMES
from export.errors import ExportError
from export.loading import load_aural_sam2, load_class_head, load_model
from export.settings import ExportSettings
from tests.builds import write_reading_weights


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"preset": "hiera_huge"}, NetworkError, ["'hiera_huge'", *PRESETS]),
        ({"image_size": 300}, NetworkError, ["300", "1024", "512", "256", "224"]),
        ({"image_size": 0}, NetworkError, ["0 px", "1024"]),
        ({"num_frames": 0}, ExportError, ["num_frames 0", "1 to 16"]),
        ({"num_frames": 17}, ExportError, ["num_frames 17", "1 to 16"]),
        ({"conditioning_frame": 5}, ExportError, ["conditioning_frame 5", "5 frames", "0 to 4"]),
        ({"conditioning_frame": -1}, ExportError, ["conditioning_frame -1", "0 to 4"]),
        ({"read_out": "best"}, ExportError, ["'best'", "first", "iou", "iou_occlusion"]),
        ({"engine": "tflite"}, ExportError, ["'tflite'", "openvino", "onnxruntime"]),
        ({"precision": "float16"}, ExportError, ["'float16'", "float32", "bfloat16"]),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, ExportError, ["'bfloat16'", "onnxruntime", "float32"]),
        ({"sam2_checkpoint": "sam2.pt"}, ExportError, ["sam2_checkpoint", "checkpoint"]),
    ],
)
def test_a_bad_value_is_named_with_its_limit_and_the_way_out(
    values: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        ExportSettings(**values)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("num_frames", [1, MAX_FRAMES])
def test_the_limits_themselves_are_allowed(num_frames: int) -> None:
    settings = ExportSettings(num_frames=num_frames, conditioning_frame=num_frames - 1)
    assert settings.conditioning_frame == num_frames - 1


def test_the_image_size_is_the_presets_own_when_none_is_given() -> None:
    assert ExportSettings(preset="compact").size == 256
    assert ExportSettings(preset="hiera_large").size == 1024
    assert ExportSettings(preset="hiera_large", image_size=512).size == 512


def test_the_usual_settings_have_the_name_that_everybody_uses() -> None:
    assert ExportSettings().name == "compact-256-t5"


def test_whatever_changes_the_result_changes_the_name() -> None:
    usual = ExportSettings(checkpoint="weights/v1m.pth")
    others = [
        dataclasses.replace(usual, **change)
        for change in (
            {"preset": "hiera_tiny", "image_size": 256},
            {"image_size": 224},
            {"num_frames": 10},
            {"checkpoint": None},
            {"checkpoint": "weights/v2.pth"},
            {"checkpoint": "hf://owner/weights/v1m.pth@refs/pr/2"},
            {"sam2_checkpoint": "weights/sam2_hiera_large.pt"},
            {"conditioning_frame": 2},
            {"read_out": "first"},
            {"read_out": "iou"},
            {"engine": "onnxruntime"},
            {"precision": "bfloat16"},
        )
    ]
    names = [settings.name for settings in (usual, *others)]
    assert len(set(names)) == len(names), names
    assert not any(set(name) & set("/@: ") for name in names), "a name is a folder"


def test_an_at_sign_in_a_local_path_cuts_nothing() -> None:
    assert ExportSettings(checkpoint="runs@home/epoch_3.pth").name.endswith("epoch_3")


def test_the_sentence_about_weights_says_whether_masks_mean_anything() -> None:
    assert "Untrained" in ExportSettings(preset="hiera_tiny").weights_sentence
    assert "trained on the procedural world" in ExportSettings().weights_sentence
    sentence = ExportSettings(checkpoint="weights/v1m.pth").weights_sentence
    assert "v1m.pth" in sentence
    assert "Untrained" not in sentence


def test_deterministic_weights_are_the_same_in_every_process_that_loads_them() -> None:
    settings = ExportSettings(preset="hiera_tiny", image_size=224)
    first, second = load_model(settings).state_dict(), load_model(settings).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_fuser_alone_asks_for_sam2s_weights(tmp_path: Path) -> None:
    path = tmp_path / "fuser.pth"
    model = load_model(ExportSettings(image_size=224))
    torch.save(model.aural_fuser.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"fuser alone.*--sam2-checkpoint"):
        load_model(ExportSettings(image_size=224, checkpoint=str(path)))


def test_a_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    wanted = load_model(ExportSettings(image_size=224)).state_dict()
    wanted["v_model.no_mem_embed"] += 1
    torch.save(wanted, path)
    found = load_model(ExportSettings(image_size=224, checkpoint=str(path))).state_dict()
    assert torch.equal(found["v_model.no_mem_embed"], wanted["v_model.no_mem_embed"])


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = AuralSAM2.from_preset("compact").state_dict()
    state["aural_fuser.fusion_modules.2.W_z2.1.running_var"].fill_(torch.inf)
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(
        CheckpointError, match=r"^broken\.pth: aural_fuser\.fusion_modules\.2\.W_z2\.1\.running_var: 128 of"
    ):
        load_model(ExportSettings(image_size=224, checkpoint=str(tmp_path / "broken.pth")))


def test_a_checkpoint_that_reads_text_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "refavs.pth"
    torch.save({"aural_fuser.text_proj.0.weight": torch.zeros(1024, 768)}, path)
    with pytest.raises(ExportError, match=r"refavs\.pth.*Ref-AVS.*with --text, or another.*auralsam2_avs_"):
        load_model(ExportSettings(checkpoint=str(path)))
    with pytest.raises(ExportError, match=r"refavs\.pth has no text encoder .*DistilRoBERTa, whose tokeniser"):
        load_model(ExportSettings(checkpoint=str(path), text=True))


def test_text_of_weights_that_read_none_is_refused(tmp_path: Path) -> None:
    torch.save(AuralSAM2.from_preset("compact").state_dict(), tmp_path / "deaf.pth")
    with pytest.raises(ExportError, match=r"deaf\.pth reads no text.*Leave --text out"):
        load_model(ExportSettings(checkpoint=str(tmp_path / "deaf.pth"), text=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": "cuda"}, "text with target cuda, method auralsam2; it is taken by builds for target cpu"),
        ({"method": "gavs"}, "text with target cpu, method gavs"),
        ({"precision": "int8"}, "precision 'int8' of a build with text"),
        ({"report": True}, "a report of precisions of a build with text"),
        ({"classes": True, "class_head": "head.safetensors"}, "text and classes in one build"),
        ({"preset": "hiera_tiny", "checkpoint": None}, "no weights that read text are shipped for preset 'hiera_tiny'"),
    ],
)
def test_what_text_is_not_exported_with_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=re.escape(says)):
        ExportSettings(**{"text": True, "checkpoint": "runs/reading.safetensors", **given})


def test_a_build_with_text_decodes_the_middle_first_and_says_that_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "reading.safetensors"
    write_reading_weights(path)
    settings = ExportSettings(checkpoint=str(path), text=True)
    assert (settings.name, settings.conditioning_frame) == ("compact-256-t5-reading-text", 2)
    assert dataclasses.replace(settings, conditioning_frame=0).name == "compact-256-t5-reading-text-cond0"
    assert settings.sam2_file == str(shipped_weights("compact"))
    assert settings.build_info("float32")["text"] == "yes"
    assert ExportSettings().build_info("float32")["text"] == ""
    found, plain = load_model(settings).state_dict(), load_model(ExportSettings()).state_dict()
    assert all(torch.equal(found[name], plain[name]) for name in plain if name.startswith("v_model."))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "avsegformer"}, "method 'avsegformer' is unknown; choose one of auralsam2, gavs, sama_avs"),
        ({"method": "gavs", "target": "cuda"}, "target 'cuda' serves method auralsam2 alone; for gavs: cpu, onnx-gpu"),
        ({"method": "sama_avs", "precision": "int8"}, "precision 'int8' was measured of method auralsam2 alone"),
        ({"method": "gavs", "report": True}, "of method auralsam2 alone, not of gavs"),
    ],
)
def test_what_a_method_is_not_exported_with_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=re.escape(says)):
        ExportSettings(**given)


def test_a_checkpoint_of_another_method_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(AdaptedSAM2.from_preset("compact", "gavs").state_dict(), tmp_path / "adapters.pth")
    for method in ("auralsam2", "sama_avs"):
        with pytest.raises(
            ExportError, match=rf"adapters\.pth holds weights of gavs, not of {method}; .*--method gavs"
        ):
            load_model(ExportSettings(checkpoint=str(tmp_path / "adapters.pth"), method=method))
    with pytest.raises(ExportError, match="'gavs' where auralsam2 is needed"):
        load_aural_sam2(ExportSettings(checkpoint=str(tmp_path / "adapters.pth"), method="gavs"))


def test_shipped_adapters_lie_on_the_sam2_of_the_shipped_network() -> None:
    settings = ExportSettings(method="gavs")
    assert settings.name == "compact-gavs-256-t5"
    adapted, plain = load_model(settings).state_dict(), load_model(ExportSettings()).state_dict()
    shared = [name for name in plain if name.startswith(("v_model.", "aural_fuser.vgg."))]
    assert len(shared) > 300
    assert all(torch.equal(adapted[name], plain[name]) for name in shared)
    assert settings.build_info("float32")["method"] == "gavs"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"classes": True, "method": "gavs"}, "classes with target cpu, method gavs"),
        ({"classes": True, "target": "onnx-gpu"}, "classes with target onnx-gpu, method auralsam2"),
        ({"class_head": "head.safetensors"}, "class_head was given without classes; give --classes too"),
        ({"classes": True, "preset": "hiera_tiny"}, "no class head is shipped for preset 'hiera_tiny'"),
    ],
)
def test_classes_are_exported_where_they_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=re.escape(says)):
        ExportSettings(**given)


def test_a_build_with_classes_says_their_names() -> None:
    settings = ExportSettings(classes=True)
    assert settings.name == "compact-256-t5-classes"
    assert json.loads(settings.build_info("float32")["classes"]) == list(SHAPES)
    assert ExportSettings().build_info("float32")["classes"] == ""


def test_a_head_of_other_weights_is_refused(tmp_path: Path) -> None:
    torch.save(AuralSAM2.from_preset("compact").state_dict(), tmp_path / "other.pth")
    settings = ExportSettings(checkpoint=str(tmp_path / "other.pth"), classes=True)
    with pytest.raises(CheckpointError, match=r"was trained on the masks of weights with sha256"):
        load_class_head(settings)

"""Templates are rendered for a build, and refused where they are broken or do not fit their stage."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import STAGE_NAMES
from export.builds import triton_config
from export.builds.triton_config import check_stage, parse, render
from export.errors import ExportError
from export.settings import ExportSettings
from tests.export.builds.configurations import MODELS, PARAMETERS


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the templates, to be altered."""
    copy = Path(shutil.copytree(triton_config.TEMPLATES, tmp_path / "templates"))
    monkeypatch.setattr(triton_config, "TEMPLATES", copy)
    return copy


def alter(templates: Path, name: str, old: str, new: str) -> None:
    path = templates / name / "config.pbtxt"
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new))


def test_a_gpu_build_has_no_prompts(small_settings: ExportSettings) -> None:
    text = render(dataclasses.replace(small_settings, target="tensorrt"), "auralsam2")
    ensemble = parse(text)
    assert not [entry for entry in ensemble.input if entry.optional]
    assert {entry.name for entry in ensemble.output} == {"MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE"}
    for step in ensemble.ensemble_scheduling.step:
        assert "USE_AUDIO" not in step.input_map


def test_the_written_file_says_what_wrote_it_and_no_longer_that_it_is_a_template(small_build: Path) -> None:
    for name in MODELS:
        text = (small_build / "models" / name / "config.pbtxt").read_text()
        assert text.startswith("# Written by auralsam2 export for compact-224-t2-float32.\n")
        assert "Template" not in text
        assert "$" not in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${tensors}", "${clip}", "clip"),
        ("${tensors}", "${tensors", "placeholder"),
        ("${tensors}", "$ tensors", "placeholder"),
        ("max_batch_size", "max_batch_sizes", "max_batch_sizes"),
        ("${instances}", "[ { count: 1 kind: KIND_NPU } ]", "KIND_NPU"),
    ],
)
def test_a_broken_template_is_named(
    old: str, new: str, said: str, templates: Path, small_settings: ExportSettings
) -> None:
    alter(templates, "vggish", old, new)
    with pytest.raises(ExportError, match=f"vggish/config.pbtxt: .*{said}.*model_repository/vggish"):
        render(small_settings, "vggish", **PARAMETERS)


def test_a_missing_parameter_is_named(small_settings: ExportSettings) -> None:
    with pytest.raises(ExportError, match="frames_per_call"):
        render(small_settings, "vggish", sha256="0" * 64)


def test_a_template_of_another_models_name_is_refused(templates: Path, small_settings: ExportSettings) -> None:
    alter(templates, "vggish", 'name: "vggish"', 'name: "hiera"')
    with pytest.raises(ExportError, match="names the model 'hiera'; it must be 'vggish'"):
        render(small_settings, "vggish", **PARAMETERS)


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_the_templates_fit_their_stages(
    name: str, small_settings: ExportSettings, small_stages: tuple[Stage, ...]
) -> None:
    check_stage(render(small_settings, name, **PARAMETERS), small_stages[STAGE_NAMES.index(name)])


TOKENS = 'name: "AUDIO_TOKENS" data_type: TYPE_FP32 dims: 2 dims: 128'


@pytest.mark.parametrize(
    ("stage", "place", "old", "new", "said"),
    [
        # Takes what it does not hand on; gives what it does not take; hands it on in another shape or type.
        ("hiera", 1, TOKENS, TOKENS.replace("AUDIO_TOKENS", "TOKENS"), "handed on"),
        ("hiera", 0, TOKENS, TOKENS.replace("AUDIO_TOKENS", "TOKENS"), "handed on"),
        ("hiera", 1, TOKENS, TOKENS.replace("128", "32"), "handed on"),
        ("hiera", 1, TOKENS, TOKENS.replace("FP32", "FP16"), "handed on"),
        ("vggish", 0, "15600", "16000", "lacks input .*AUDIO"),
        ("vggish", 0, '"AUDIO"', '"SOUND"', "lacks input .*AUDIO"),
        ("hiera", 0, "TYPE_UINT8", "TYPE_INT8", "lacks input .*FRAMES"),
        ("sam2_decoder", 0, 'name: "IOU" data_type: TYPE_FP32 dims: 2 dims: 3', 'name: "IOU" dims: 4', "output .*IOU"),
    ],
)
def test_a_configuration_that_does_not_fit_its_stage_is_refused(
    stage: str,
    place: int,
    old: str,
    new: str,
    said: str,
    small_settings: ExportSettings,
    small_stages: tuple[Stage, ...],
) -> None:
    parts = render(small_settings, stage, **PARAMETERS).split(old)
    text = old.join(parts[: place + 1]) + new + old.join(parts[place + 1 :])
    with pytest.raises(ExportError, match=f"{stage}/config.pbtxt .*{said}"):
        check_stage(text, small_stages[STAGE_NAMES.index(stage)])


def test_an_extra_input_is_refused(small_settings: ExportSettings, small_stages: tuple[Stage, ...]) -> None:
    text = render(small_settings, "vggish", **PARAMETERS)
    text += 'input { name: "EXTRA" data_type: TYPE_FP32 dims: [ 1 ] }\n'
    with pytest.raises(ExportError, match=r"EXTRA.*handed on"):
        check_stage(text, small_stages[0])


def test_other_settings_render_other_text(small_settings: ExportSettings) -> None:
    other = dataclasses.replace(small_settings, engine="onnxruntime")
    assert 'string_value: "onnxruntime"' in render(other, "hiera", **PARAMETERS)

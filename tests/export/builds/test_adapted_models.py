"""What the server is told of builds whose adapters change the image features, and of builds with classes."""

from dataclasses import replace
from typing import Any

import pytest

from auralsam2_client.contract import CLASS_RESULTS, PROMPT_FEATURES, PROMPTS_COME, SOUND_FEATURES, VISUAL_FEATURES
from export.builds.triton_config import parse, render
from export.settings import ExportSettings
from tests.builds import ADAPTED, SMALL, WITH_CLASSES

ON_GPU = replace(ADAPTED, target="onnx-gpu")


def config_of(settings: ExportSettings, name: str) -> Any:
    return parse(render(settings, name, frames_per_call=1, sha256="0" * 64))


def names(entries: Any) -> set[str]:
    return {entry.name for entry in entries}


def step_of(settings: ExportSettings, ensemble: str, model: str) -> Any:
    steps = config_of(settings, ensemble).ensemble_scheduling.step
    return next(step for step in steps if step.model_name == model)


def test_hiera_is_told_of_prompts_and_the_decoder_reads_what_is_made_for_them() -> None:
    hiera = step_of(ADAPTED, "auralsam2", "hiera")
    assert {"AUDIO_TOKENS", "USE_AUDIO", "POINT_LABELS", "MASK_INPUT", "TICKET"} <= set(hiera.input_map)
    assert PROMPTS_COME not in hiera.input_map
    assert set(PROMPT_FEATURES) <= set(hiera.output_map)
    decoder = step_of(ADAPTED, "auralsam2", "sam2_decoder")
    assert set(PROMPT_FEATURES) <= set(decoder.input_map)
    assert not set(SOUND_FEATURES[3:]) & set(decoder.input_map)
    fuser = config_of(ADAPTED, "aural_fuser")
    assert names(fuser.input) == {"IMAGE_EMBEDDING", "AUDIO_TOKENS", "USE_AUDIO", "TICKET"}
    assert names(fuser.output) == set(VISUAL_FEATURES)


def test_a_session_says_that_prompts_come() -> None:
    hiera = step_of(ADAPTED, "auralsam2_features", "hiera")
    assert {PROMPTS_COME, "USE_AUDIO"} <= set(hiera.input_map)
    assert set(PROMPT_FEATURES) <= names(config_of(ADAPTED, "auralsam2_features").output)
    assert config_of(ADAPTED, "auralsam2_session").parameters["method"].string_value == "gavs"


@pytest.mark.parametrize("name", ["hiera", "aural_fuser", "sam2_decoder", "auralsam2"])
def test_without_python_there_is_nothing_of_prompts(name: str) -> None:
    config = config_of(ON_GPU, name)
    own = {*PROMPT_FEATURES, PROMPTS_COME, "ADAPTERS", "POINT_LABELS", "USE_AUDIO"}
    assert not own & (names(config.input) | names(config.output))


def test_callers_see_one_ensemble_whatever_the_method() -> None:
    found, wanted = (config_of(settings, "auralsam2") for settings in (ADAPTED, SMALL))
    assert names(found.input) == names(wanted.input)
    assert names(found.output) == names(wanted.output)


def test_classes_are_outputs_of_the_decoder_and_the_ensemble_alone() -> None:
    for name in ("sam2_decoder", "auralsam2"):
        outputs = {entry.name: list(entry.dims) for entry in config_of(WITH_CLASSES, name).output}
        assert outputs["CLASS_MAP"] == [2, 56, 56]
        assert outputs["CLASS_SCORES"] == [2, 6]
        assert not set(CLASS_RESULTS) & names(config_of(SMALL, name).output)
    assert set(CLASS_RESULTS) <= set(step_of(WITH_CLASSES, "auralsam2", "sam2_decoder").output_map)
    assert not set(CLASS_RESULTS) & names(config_of(WITH_CLASSES, "auralsam2_session").output)

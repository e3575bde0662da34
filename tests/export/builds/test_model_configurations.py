"""What the server is told about each model is the contract, and what the graph on disk has; the ensemble is a chain."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from auralsam2.presets import PRESETS
from auralsam2_client import contract
from auralsam2_client.contract import STAGE_NAMES, TensorSpec
from export.builds import triton_config
from export.builds.triton_config import parse, render, tensors
from export.settings import ExportSettings
from tests.export.builds.configurations import ENSEMBLES, MODELS, PARAMETERS

# What SAM2's own prompts add for S = 224, all of it optional.
PROMPTS = {
    TensorSpec("POINT_COORDS", "FP32", (16, 2)),
    TensorSpec("POINT_LABELS", "INT32", (16,)),
    TensorSpec("MASK_INPUT", "FP32", (56, 56)),
    TensorSpec("PROMPT_FRAME", "INT32", (1,)),
    TensorSpec("USE_AUDIO", "BOOL", (1,)),
    TensorSpec("COMBINATION", "INT32", (1,)),
    TensorSpec("ANSWER", "INT32", (1,)),
    TensorSpec("OUTPUT_SIZE", "INT32", (2,)),
}
# What the last stage's own runtime makes for clips of two frames.
# What the stages know a clip by.
TICKET = TensorSpec("TICKET", "UINT8", (16,))
MADE = {
    TICKET,
    TensorSpec("MASK_LOGITS_FP16", "FP16", (2, 56, 56)),
    TensorSpec("MASK_BITS", "UINT8", (2, 56, 7)),
    TensorSpec("MASK_RLE", "STRING", (2,)),
    TensorSpec("PROMPT_MODE", "STRING", (1,)),
    TensorSpec("BUILD_INFO", "STRING", (1,)),
}
# Frames may come as files in their place.
FILES = {TensorSpec("FRAMES_ENCODED", "STRING", (2,))}
FORMS = FILES | {TensorSpec("FRAMES", "UINT8", (2, 224, 224, 3))}
SOUND = {TensorSpec("AUDIO", "FP32", (2, 15600, 2))}
OPTIONAL = {
    "vggish": PROMPTS | FILES | SOUND,
    "hiera": FORMS | {TICKET},
    "aural_fuser": {TensorSpec("USE_AUDIO", "BOOL", (1,)), TICKET},
    "sam2_decoder": PROMPTS | {TICKET},
    "auralsam2": PROMPTS | FORMS | SOUND,
    "auralsam2_features": {TensorSpec("USE_AUDIO", "BOOL", (1,))} | FORMS | SOUND,
}
ELEMENTS = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.UINT8: "UINT8"}
HANDED_ON = {"hiera": {"AUDIO_TOKENS"}}


@pytest.fixture(scope="module")
def configs(small_build: Path) -> dict[str, Any]:
    return {name: parse((small_build / "models" / name / "config.pbtxt").read_text()) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_every_shape_is_fixed_and_no_batch_is_made(name: str, configs: dict[str, Any]) -> None:
    config = configs[name]
    assert config.name == name
    assert config.max_batch_size == 0
    for spec in (*tensors(config.input), *tensors(config.output)):
        assert spec.shape, spec.name
        assert all(dim > 0 for dim in spec.shape), spec
        assert spec.dtype in ("FP32", "FP16", "UINT8", "INT32", "BOOL", "STRING")
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_a_configuration_names_the_tensors_of_the_graph_on_disk(
    name: str, configs: dict[str, Any], protos: dict[str, onnx.ModelProto]
) -> None:
    config, graph = configs[name], protos[name].graph
    frames_per_call = int(config.parameters["frames_per_call"].string_value)
    for entries, values in ((config.input, graph.input), (config.output, graph.output)):
        configured = {
            (spec.name, spec.dtype, (frames_per_call, *spec.shape[1:]))
            for spec in graph_tensors(entries)
            if spec.name not in HANDED_ON.get(name, ())
        }
        assert configured == {
            (
                value.name,
                ELEMENTS[value.type.tensor_type.elem_type],
                tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
            )
            for value in values
        }
        assert {spec.shape[0] for spec in graph_tensors(entries)} == {2}


def graph_tensors(entries: Any) -> list[TensorSpec]:
    """Those that a raw clip by sound alone has."""
    optional = {entry.name for entry in entries if getattr(entry, "optional", False)} - {*contract.CLIP}
    return [spec for spec in tensors(entries) if spec.name not in optional and spec not in MADE]


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_is_the_contracts_and_the_contract_is_a_configuration(
    name: str, configs: dict[str, Any]
) -> None:
    """Both ways: neither has a tensor, a parameter or a model that the other lacks."""
    config, model, sizes = configs[name], contract.MODELS[name], contract.Sizes(2, 224, 128)
    # JPEG moves the masks of this build, so it does not say that it keeps them.
    named = [each for each in model.optional if each != contract.JPEG_KEEPS_MASKS]
    assert tensors(config.input) == list(contract.tensors((*model.inputs, *named), sizes))
    assert tensors(config.output) == list(contract.tensors(model.outputs, sizes))
    raw = [each for each in model.inputs if each in contract.CLIP and "FRAMES_ENCODED" in named]
    assert [entry.name for entry in config.input if entry.optional] == raw + named
    assert set(config.parameters) == set(model.parameters)


def test_the_contract_has_every_model_and_no_other() -> None:
    folders = {path.parent.name for path in triton_config.TEMPLATES.glob("*/config.pbtxt")}
    assert folders == set(contract.MODELS) == {*MODELS, contract.NETWORK}


@pytest.mark.parametrize("name", OPTIONAL)
def test_prompts_and_the_clips_own_tensors_are_optional_and_nothing_else_is(name: str, configs: dict[str, Any]) -> None:
    config = configs[name]
    optional = [entry for entry in config.input if entry.optional]
    assert set(tensors(optional)) == OPTIONAL[name]


def test_a_session_takes_clip_prompts_and_step_and_answers_as_the_ensemble(configs: dict[str, Any]) -> None:
    session, ensemble = configs["auralsam2_session"], configs["auralsam2"]
    assert all(entry.optional for entry in session.input)
    assert set(tensors(session.input)) == set(tensors(ensemble.input)) | {
        *(TensorSpec(name, "INT32", (1,)) for name in ("STEP", "PROPAGATE")),
        *(TensorSpec(name, "STRING", (1,)) for name in ("SESSION_ID", "OPENING")),
        TensorSpec("END", "BOOL", (1,)),
    }
    # Its clip was answered by the ensemble, which says what is served.
    answers = [spec for spec in tensors(ensemble.output) if spec.name != "BUILD_INFO"]
    assert tensors(session.output) == [*answers, TensorSpec("SESSION_ID", "STRING", (1,))]
    assert not session.HasField("sequence_batching"), "which a text for a number would end the server through"
    (group,) = session.instance_group
    assert group.count == 1


def test_the_ticket_of_the_first_stage_reaches_all_others_and_no_caller(configs: dict[str, Any]) -> None:
    for ensemble, stages in (("auralsam2", STAGE_NAMES), ("auralsam2_features", STAGE_NAMES[:-1])):
        first, *others = configs[ensemble].ensemble_scheduling.step
        assert first.output_map["TICKET"] == "TICKET"
        assert "TICKET" not in first.input_map
        assert [step.model_name for step in others if step.input_map["TICKET"] == "TICKET"] == [*stages[1:]]
    assert "TICKET" not in {entry.name for entry in configs["auralsam2"].output}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_a_stage_is_one_python_model_on_the_cpu(name: str, configs: dict[str, Any]) -> None:
    config = configs[name]
    assert config.backend == "python"
    (group,) = config.instance_group
    assert group.count == 1
    assert group.kind == group.KIND_CPU
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    added = {"conditioning_frame"} if "MASK_INPUT" in {entry.name for entry in config.input} else set()
    # Where clips enter and leave.
    at_the_ends = {"vggish": {"max_clips_in_flight", "clip_timeout_s"}, "sam2_decoder": {"ends_clip", "build_info"}}
    added |= at_the_ends.get(name, set())
    added |= {"max_encoded_frame_bytes"} if name in ("vggish", "hiera") else set()
    added |= {"method"} if name in ("hiera", "sam2_decoder") else set()
    # Of what lies beside a graph; empty where nothing does.
    beside = {"aural_fuser": {"text_encoder_sha256", "vocabulary_sha256"}, "sam2_decoder": {"class_head_sha256"}}
    assert [parameters[each] for each in beside.get(name, ())] == [""] * len(beside.get(name, ()))
    added |= beside.get(name, set())
    assert set(parameters) == {"engine", "precision", "preset", "frames_per_call", "sha256"} | added
    assert (parameters["engine"], parameters["precision"]) == ("openvino", "float32")
    assert parameters["frames_per_call"] == ("1" if name == "hiera" else "2")


def steps(config: Any) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    return [(step.model_name, dict(step.input_map), dict(step.output_map)) for step in config.ensemble_scheduling.step]


def check_chain(configs: dict[str, Any], name: str = "auralsam2") -> None:
    """The ensemble's tensors have a source and one meaning, and each step waits for the one just before it."""
    ensemble = configs[name]
    known = {spec.name: spec for spec in tensors(ensemble.input)}
    previous: set[str] = set()
    for index, (model, input_map, output_map) in enumerate(steps(ensemble)):
        takes = {spec.name: spec for spec in tensors(configs[model].input)}
        gives = {spec.name: spec for spec in tensors(configs[model].output)}
        optional = {entry.name for entry in configs[model].input if entry.optional}
        # The ticket comes from the first stage.
        passed = optional & ({entry.name for entry in ensemble.input if entry.optional} | {TICKET.name})
        required = {entry.name for entry in configs[model].input if not entry.optional}
        assert set(input_map) == required | passed, model
        assert set(output_map) == set(gives), model
        for key, value in input_map.items():
            assert value in known, f"{model}: nothing gives {value} before it"
            assert (known[value].dtype, known[value].shape) == (takes[key].dtype, takes[key].shape), f"{model} {key}"
        if index:  # a prompt comes from outside, so that it makes no step wait
            assert previous & set(input_map.values()), f"{model} may run beside the step before it"
        for key, value in output_map.items():
            assert value not in known, f"{value} is given twice"
            known[value] = gives[key]
        previous = set(output_map.values())
    for spec in tensors(ensemble.output):
        assert known[spec.name] == spec


def test_the_ensemble_is_a_chain_in_the_order_of_the_stages(configs: dict[str, Any]) -> None:
    assert configs["auralsam2"].platform == "ensemble"
    assert [model for model, *_ in steps(configs["auralsam2"])] == list(STAGE_NAMES)
    check_chain(configs)
    assert [model for model, *_ in steps(configs["auralsam2_features"])] == list(STAGE_NAMES[:-1])
    check_chain(configs, "auralsam2_features")


def test_what_the_client_sees_is_the_contract(configs: dict[str, Any]) -> None:
    ensemble = configs["auralsam2"]
    assert (
        set(tensors(ensemble.input))
        == {
            TensorSpec("FRAMES", "UINT8", (2, 224, 224, 3)),
            TensorSpec("AUDIO", "FP32", (2, 15600, 2)),
        }
        | PROMPTS
        | FILES
    )
    assert set(tensors(ensemble.output)) == {
        TensorSpec("MASK_LOGITS", "FP32", (2, 56, 56)),
        TensorSpec("CANDIDATE_LOGITS", "FP32", (2, 3, 56, 56)),
        TensorSpec("IOU", "FP32", (2, 3)),
        TensorSpec("OBJECT_SCORE", "FP32", (2,)),
        *MADE - {TICKET},
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("num_frames", [1, 10])
def test_every_preset_renders_to_a_chain(preset: str, num_frames: int) -> None:
    settings = ExportSettings(preset=preset, num_frames=num_frames)
    configs = {name: parse(render(settings, name, **PARAMETERS)) for name in MODELS}
    for ensemble in ENSEMBLES:
        check_chain(configs, ensemble)
    (frames,) = [spec for spec in tensors(configs["hiera"].input) if spec.name == "FRAMES"]
    assert frames.shape == (num_frames, settings.size, settings.size, 3)
    (embedding,) = [spec for spec in tensors(configs["hiera"].output) if spec.name == "IMAGE_EMBEDDING"]
    assert embedding.shape == (num_frames, PRESETS[preset].width, settings.size // 16, settings.size // 16)


def test_a_chain_that_could_run_side_by_side_would_be_seen(configs: dict[str, Any]) -> None:
    """The check of the chain above, on the ensemble as it must not be: hiera beside vggish."""
    copies = {name: type(config).FromString(config.SerializeToString()) for name, config in configs.items()}
    _, hiera, fuser, _ = copies["auralsam2"].ensemble_scheduling.step
    for name in ("AUDIO_TOKENS", "TICKET"):
        for entries in (copies["hiera"].input, copies["hiera"].output):
            for index in [i for i, entry in enumerate(entries) if entry.name == name]:
                del entries[index]
        hiera.input_map.pop(name)
        hiera.output_map.pop(name, None)
    fuser.input_map["AUDIO_TOKENS"] = "AUDIO_TOKENS"
    with pytest.raises(AssertionError, match="hiera may run beside"):
        check_chain(copies)


def test_a_build_whose_masks_jpeg_keeps_says_so_to_clients_and_a_raw_frame_is_the_limit() -> None:
    """By the name of a tensor: a client sees a model's tensors, and nothing else of its configuration."""
    settings = ExportSettings(image_size=224, num_frames=2)
    for keeps in (False, True):
        configs = {name: parse(render(settings, name, keeps, **PARAMETERS)) for name in MODELS}
        named = {name for name, config in configs.items() if contract.JPEG_KEEPS_MASKS in str(config.input)}
        assert named == ({"auralsam2", "hiera"} if keeps else set())
        for ensemble in ENSEMBLES:
            check_chain(configs, ensemble)
        for name in ("vggish", "hiera"):
            limit = configs[name].parameters["max_encoded_frame_bytes"].string_value
            assert int(limit) == 3 * 224 * 224 + 65536

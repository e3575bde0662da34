"""Fill the `config.pbtxt` templates of model_repository/ and hold them against the stages that they describe."""

import json
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import model_repository
from auralsam2.presets import preset
from auralsam2.stages.clip_stages import Stage
from auralsam2_client import contract
from auralsam2_client.contract import (
    ADAPTERS,
    AUDIO_TOKENS,
    AURALSAM2,
    BESIDE_GRAPH,
    CLIP,
    DECODER,
    ENCODED_FRAMES,
    ENCODERS,
    ENSEMBLE,
    FEATURES_ENSEMBLE,
    HANDED_ON,
    IMAGE_FEATURES,
    JPEG_KEEPS_MASKS,
    NETWORK,
    RESULTS,
    SPARE_ENCODED_BYTES,
    STAGE_NAMES,
    TICKET,
    TOKENS,
    Model,
    Parameter,
    Sizes,
    TensorSpec,
    models_of,
)
from export.errors import ExportError
from export.settings import ONE_PROCESS, ExportSettings

TEMPLATES = Path(model_repository.__file__).parent
GPU_TEMPLATES = {"onnx-gpu": "onnx_gpu.pbtxt", "tensorrt": "tensorrt.pbtxt"}
_TEMPLATE_NOTE = "# Template"
# Ensembles, and the stages that each runs one after the other.
CHAINS = {ENSEMBLE: STAGE_NAMES, FEATURES_ENSEMBLE: ENCODERS}
# The server that has this field is that of the GPU image; the embedded one (2.51) refuses a name that it does not know.
CLIPS_BETWEEN_STAGES = """
  # Clips that may wait between two stages, each with its maps: twice as many as the largest machine has cards (8), so
  # that no card waits for work; at 1024 px and T = 5 that is 16 x 0.2 GB at most. The rest waits.
  max_inflight_requests: 16"""


def render(settings: ExportSettings, name: str, jpeg_keeps_masks: bool = False, /, **parameters: str | int) -> str:
    """Render one model's `config.pbtxt`.

    Args:
        name: a stage, or the ensemble.
        jpeg_keeps_masks: what was measured; the ensemble says so to clients.
        parameters: what the template asks for beside the settings: frames_per_call and sha256 of a stage.
    Raises: ExportError when a placeholder is unknown or the text is not a ModelConfig of that name.
    """
    in_python = settings.in_python
    values: dict[str, Any] = {
        "tensors": _tensors_text(settings, name, jpeg_keeps_masks),
        "engine": settings.engine,
        "preset": settings.preset,
        "method": settings.method,
        # Of what a build does not have.
        **dict.fromkeys((Parameter.CLASS_HEAD_SHA256, Parameter.TEXT_ENCODER_SHA256, Parameter.VOCABULARY_SHA256), ""),
        "precision": settings.precision,
        "build_info": _info_text(settings, str(parameters.get("precision", settings.precision))),
        "conditioning_frame": settings.conditioning_frame,
        "max_encoded_frame_bytes": 3 * settings.size**2 + SPARE_ENCODED_BYTES,
        "instances": f"[ {{ count: 1 kind: {'KIND_GPU' if settings.on_card else 'KIND_CPU'} }} ]",
        "one_instance": f"[ {{ count: 1 {'kind: KIND_GPU gpus: [ 0 ]' if settings.on_card else 'kind: KIND_CPU'} }} ]",
        "pytorch": _pytorch_text(settings),
        "clips_between_stages": "" if in_python else CLIPS_BETWEEN_STAGES,
        **parameters,
    }
    if name in CHAINS:
        values["steps"] = _steps_text(settings, name, jpeg_keeps_masks)
    return _fill_template(settings, name, f"{name}/config.pbtxt", values)


def sizes(settings: ExportSettings) -> Sizes:
    """Take from the settings what the shapes of a build depend on."""
    return Sizes(settings.num_frames, settings.size, preset(settings.preset).width, len(settings.class_names))


def _model(settings: ExportSettings, name: str, jpeg_keeps_masks: bool) -> Model:
    """A model of the contract. Without Python no prompts and no files: its clips are raw, and of the sound alone.

    Where one process has all stages, a session gets features and answer by sound from one call.
    """
    model = models_of(settings.method, settings.classes, settings.text)[name]
    if settings.in_python:
        if not jpeg_keeps_masks:
            model = replace(model, optional=tuple(each for each in model.optional if each != JPEG_KEEPS_MASKS))
        alone = name == FEATURES_ENSEMBLE and _in_one_process(settings)
        return replace(model, outputs=(*IMAGE_FEATURES, *RESULTS)) if alone else model
    inputs, outputs = (tuple(n for n in names if n not in BESIDE_GRAPH) for names in (model.inputs, model.outputs))
    return replace(model, optional=(), inputs=inputs, outputs=outputs)


def _in_one_process(settings: ExportSettings) -> bool:
    return settings.target == "cuda" and settings.layout == ONE_PROCESS


def network_model(settings: ExportSettings) -> str:
    """Name the model beside which the weights of a build for target cuda lie."""
    return NETWORK if _in_one_process(settings) else DECODER


def _chain(settings: ExportSettings, name: str) -> tuple[str, ...]:
    """The models that an ensemble runs one after the other."""
    return (NETWORK,) if _in_one_process(settings) else CHAINS[name]


def _pytorch_text(settings: ExportSettings) -> str:
    """Parameters of a Python model that computes in PyTorch."""
    if settings.target != "cuda":
        return ""
    values = {Parameter.NETWORK.value: network_model(settings)}
    if settings.on_card:
        # What a stage gives stays on the card until the next one has read it.
        values["FORCE_CPU_ONLY_INPUT_TENSORS"] = "no"
    return "\n".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in values.items()
    )


def _info_text(settings: ExportSettings, precision: str) -> str:
    """BUILD_INFO as the value of a parameter."""
    told = json.dumps(settings.build_info(precision))
    text: str = text_format.MessageToString(model_config_pb2.ModelParameter(string_value=told), as_one_line=True)
    return text


def _tensors_text(settings: ExportSettings, name: str, jpeg_keeps_masks: bool) -> str:
    """The `input` and `output` lists of a model."""
    model, config = _model(settings, name, jpeg_keeps_masks), model_config_pb2.ModelConfig()
    for names, entries in (((*model.inputs, *model.optional), config.input), (model.outputs, config.output)):
        for spec in contract.tensors(names, sizes(settings)):
            entry = entries.add(name=spec.name, dims=spec.shape)
            entry.data_type = model_config_pb2.DataType.Value(f"TYPE_{spec.dtype}")
    for entry in config.input:
        entry.optional = entry.name in model.optional or (entry.name in CLIP and ENCODED_FRAMES in model.optional)
    lines = [f"  {{ {text_format.MessageToString(entry, as_one_line=True)} }}" for entry in config.input]
    given = [f"  {{ {text_format.MessageToString(entry, as_one_line=True)} }}" for entry in config.output]
    return "input [\n" + ",\n".join(lines) + "\n]\noutput [\n" + ",\n".join(given) + "\n]"


def _steps_text(settings: ExportSettings, name: str, jpeg_keeps_masks: bool) -> str:
    """The steps of an ensemble: each stage takes and gives tensors under their own names.

    But for the audio tokens: once hiera has handed them on they have another name in the ensemble, so that the fuser
    waits for it. A graph on a GPU gives them under that name by itself. The first stage's ticket goes to all others.
    """
    ensemble, handed_on, steps = _model(settings, name, jpeg_keeps_masks), False, []
    for stage in _chain(settings, name):
        model, lines = (
            _model(settings, stage, jpeg_keeps_masks),
            [f'      model_name: "{stage}"', "      model_version: -1"],
        )
        for key in (*model.inputs, *(each for each in model.optional if each in (*ensemble.optional, TICKET))):
            value = HANDED_ON if handed_on and key == AUDIO_TOKENS else key
            lines.append(f'      input_map {{ key: "{key}" value: "{value}" }}')
        hands_on = AUDIO_TOKENS in model.inputs and AUDIO_TOKENS in model.outputs
        # One model for all has outputs that this ensemble does not give.
        alone = stage == NETWORK
        for key in (key for key in model.outputs if key in ensemble.outputs or not alone):
            passing = hands_on and key == AUDIO_TOKENS
            value, key = HANDED_ON if passing else key, HANDED_ON if passing and not settings.in_python else key
            lines.append(f'      output_map {{ key: "{key}" value: "{value}" }}')
        handed_on = handed_on or hands_on
        steps.append("    {\n" + "\n".join(lines) + "\n    }")
    return "  step [\n" + ",\n".join(steps) + "\n  ]"


def render_gpu(settings: ExportSettings, stage: Stage, sha256: str) -> str:
    """Render the `config.pbtxt` of a stage on a GPU: the graph's own tensors, on the backend of the target.

    Args:
        sha256: of the stage's graph; an engine is rebuilt for another card, its graph stays.
    Raises: ExportError as `render`.
    """
    types = model_config_pb2.DataType
    tensors = model_config_pb2.ModelConfig()
    warmup = model_config_pb2.ModelWarmup(name="zeros", batch_size=1)
    for specs, entries in ((stage.inputs, tensors.input), (stage.outputs, tensors.output)):
        for spec in specs:
            entries.add(name=spec.name, data_type=types.Value(f"TYPE_{spec.dtype}"), dims=spec.shape)
    for entry in tensors.input:
        warmup.inputs[entry.name].CopyFrom(
            model_config_pb2.ModelWarmup.Input(data_type=entry.data_type, dims=entry.dims, zero_data=True)
        )
    values = {
        "name": stage.name,
        "tensors": text_format.MessageToString(tensors),
        "warmup": text_format.MessageToString(model_config_pb2.ModelConfig(model_warmup=[warmup])),
        "sha256": sha256,
    }
    return _fill_template(settings, stage.name, GPU_TEMPLATES[settings.target], values)


def _fill_template(settings: ExportSettings, name: str, template: str, values: Mapping[str, Any]) -> str:
    lines = (TEMPLATES / template).read_text().splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith(_TEMPLATE_NOTE))
    try:
        text = f"# Written by auralsam2 export for {settings.name}.\n" + string.Template(body).substitute(values)
        found = parse(text).name
    except (KeyError, ValueError, text_format.ParseError) as error:
        raise ExportError(f"{name}/config.pbtxt: {error!r}. Mend the template model_repository/{template}.") from error
    if found != name:
        raise ExportError(f"{name}/config.pbtxt names the model {found!r}; it must be {name!r}.")
    return text


def parse(text: str) -> Any:
    """Parse `text` as Triton's own ModelConfig message. Raises text_format.ParseError."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(entries: Any) -> list[TensorSpec]:
    """List the inputs or outputs of a parsed ModelConfig."""
    names = model_config_pb2.DataType
    return [
        TensorSpec(entry.name, names.Name(entry.data_type).removeprefix("TYPE_"), tuple(entry.dims))
        for entry in entries
    ]


def check_stage(text: str, stage: Stage, method: str = AURALSAM2, takes_text: bool = False) -> None:
    """Check that a configuration names its graph's tensors, types and shapes; what it adds, it hands on untouched.

    But for prompts, the mode that they make, and small forms of masks: the stage's own runtime reads and writes them.

    Raises: ExportError naming the tensor that differs.
    """
    config, optional = parse(text), models_of(method, text=takes_text)[stage.name].optional
    for kind, specs, entries in (("input", stage.inputs, config.input), ("output", stage.outputs, config.output)):
        found = tensors(entries)
        differing = [spec for spec in specs if spec not in found and spec.name not in (ADAPTERS, TOKENS)]
        if differing:
            raise ExportError(f"{stage.name}/config.pbtxt lacks {kind} {differing[0]}; it has {found}.")
    own = {entry.name for entry in config.input if entry.optional and entry.name in optional} | {*BESIDE_GRAPH}
    if any(spec.name == TOKENS for spec in stage.inputs):
        own.add(AUDIO_TOKENS)  # joined to those of words
    added_in = [spec for spec in tensors(config.input) if spec not in stage.inputs and spec.name not in own]
    added_out = [spec for spec in tensors(config.output) if spec not in stage.outputs and spec.name not in own]
    if not set(added_in) <= set(added_out) <= {*tensors(config.input)}:
        raise ExportError(
            f"{stage.name}/config.pbtxt takes {added_in} and gives {added_out} beside the graph's own; what is not the"
            " graph's must be handed on under its name, with its type and shape."
        )

"""Fill the `config.pbtxt` templates of model_repository/ and hold them against the stages that they describe."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import model_repository
from auralsam2.presets import STRIDE, preset
from export.errors import ExportError
from export.settings import ExportSettings
from export.stages import HANDED_ON, Stage, TensorSpec
from model_repository.stage_runtime.prompted import MAX_POINTS

TEMPLATES = Path(model_repository.__file__).parent
GPU_TEMPLATES = {"onnx-gpu": "onnx_gpu.pbtxt", "tensorrt": "tensorrt.pbtxt"}
_TEMPLATE_NOTE = "# Template"
# What SAM2's own prompts need: stage_runtime/prompt_tensors.py says what they hold. On a CPU alone.
PROMPTS = ("POINT_COORDS", "POINT_LABELS", "MASK_INPUT", "PROMPT_FRAME", "USE_AUDIO", "COMBINATION")
PROMPT_MODE = "PROMPT_MODE"
# The server that has this field is that of the GPU image; the embedded one (2.51) refuses a name that it does not know.
CLIPS_BETWEEN_STAGES = """
  # Clips that may wait between two stages, each with its maps: twice as many as the largest machine has cards (8), so
  # that no card waits for work; at 1024 px and T = 5 that is 16 x 0.2 GB at most. The rest waits.
  max_inflight_requests: 16"""


def render(settings: ExportSettings, name: str, **parameters: str | int) -> str:
    """The text of one model's `config.pbtxt`.

    Args:
        name: a stage, or the ensemble.
        parameters: what the template asks for beside the sizes: frames_per_call and sha256 of a stage.
    Raises: ExportError when a placeholder is unknown or the text is no ModelConfig of that name.
    """
    width, side = preset(settings.preset).width, settings.size // STRIDE
    values: dict[str, Any] = {
        "T": settings.num_frames,
        "S": settings.size,
        "S_4": 4 * side,
        "S_8": 2 * side,
        "S_16": side,
        "C": width,
        "C_4": width // 4,
        "C_8": width // 8,
        "engine": settings.engine,
        "preset": settings.preset,
        "precision": settings.precision,
        "handed_on": "AUDIO_TOKENS" if settings.target == "cpu" else HANDED_ON,
        "clips_between_stages": "" if settings.target == "cpu" else CLIPS_BETWEEN_STAGES,
        "conditioning_frame": settings.conditioning_frame,
        **(_prompt_parts(4 * side) if settings.target == "cpu" else dict.fromkeys(_prompt_parts(4 * side), "")),
        **parameters,
    }
    return _filled(settings, name, f"{name}/config.pbtxt", values)


def _prompt_parts(mask_side: int) -> dict[str, str]:
    """What the ensemble's template has for prompts, empty on a GPU: its clips are those of the sound alone."""
    shapes = {
        "POINT_COORDS": f"TYPE_FP32 dims: [ {MAX_POINTS}, 2 ]",
        "POINT_LABELS": f"TYPE_INT32 dims: [ {MAX_POINTS} ]",
        "MASK_INPUT": f"TYPE_FP32 dims: [ {mask_side}, {mask_side} ]",
        "PROMPT_FRAME": "TYPE_INT32 dims: [ 1 ]",
        "USE_AUDIO": "TYPE_BOOL dims: [ 1 ]",
        "COMBINATION": "TYPE_INT32 dims: [ 1 ]",
    }

    def into_stage(names: Sequence[str]) -> str:
        return "".join(f'\n      input_map {{ key: "{name}" value: "{name}" }}' for name in names)

    return {
        "prompts": "".join(
            f',\n  {{ name: "{name}" data_type: {shape} optional: true }}' for name, shape in shapes.items()
        ),
        "prompt_mode": f',\n  {{ name: "{PROMPT_MODE}" data_type: TYPE_STRING dims: [ 1 ] }}',
        "prompts_into_stage": into_stage(PROMPTS),
        "use_audio_into_stage": into_stage(["USE_AUDIO"]),
        "mode_out_of_stage": f'\n      output_map {{ key: "{PROMPT_MODE}" value: "{PROMPT_MODE}" }}',
    }


def render_gpu(settings: ExportSettings, stage: Stage, sha256: str) -> str:
    """The `config.pbtxt` of a stage on a GPU: the graph's own tensors, on the backend of the target.

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
    return _filled(settings, stage.name, GPU_TEMPLATES[settings.target], values)


def _filled(settings: ExportSettings, name: str, template: str, values: Mapping[str, Any]) -> str:
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
    """`text` as Triton's own ModelConfig message. Raises text_format.ParseError."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(entries: Any) -> list[TensorSpec]:
    """The inputs or outputs of a parsed ModelConfig."""
    names = model_config_pb2.DataType
    return [
        TensorSpec(entry.name, names.Name(entry.data_type).removeprefix("TYPE_"), tuple(entry.dims))
        for entry in entries
    ]


def check_stage(text: str, stage: Stage) -> None:
    """A stage's configuration names the graph's tensors, types and shapes; what it adds, it hands on untouched.

    But for prompts and the mode that they make: the stage's own runtime reads and writes them.

    Raises: ExportError naming the tensor that differs.
    """
    config = parse(text)
    for kind, specs, entries in (("input", stage.inputs, config.input), ("output", stage.outputs, config.output)):
        found = tensors(entries)
        differing = [spec for spec in specs if spec not in found]
        if differing:
            raise ExportError(f"{stage.name}/config.pbtxt lacks {kind} {differing[0]}; it has {found}.")
    own = {entry.name for entry in config.input if entry.optional and entry.name in PROMPTS} | {PROMPT_MODE}
    added_in = [spec for spec in tensors(config.input) if spec not in stage.inputs and spec.name not in own]
    added_out = [spec for spec in tensors(config.output) if spec not in stage.outputs and spec.name not in own]
    if set(added_in) != set(added_out):
        raise ExportError(
            f"{stage.name}/config.pbtxt takes {added_in} and gives {added_out} beside the graph's own; what is not the"
            " graph's must be handed on under its name, with its type and shape."
        )

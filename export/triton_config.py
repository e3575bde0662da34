"""Fill the `config.pbtxt` templates of model_repository/ and hold them against the stages that they describe."""

import string
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import model_repository
from auralsam2.presets import STRIDE, preset
from export.errors import ExportError
from export.settings import ExportSettings
from export.stages import Stage, TensorSpec

TEMPLATES = Path(model_repository.__file__).parent
_TEMPLATE_NOTE = "# Template."


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
        "precision": settings.precision,
        **parameters,
    }
    lines = (TEMPLATES / name / "config.pbtxt").read_text().splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith(_TEMPLATE_NOTE))
    try:
        text = f"# Written by auralsam2 export for {settings.name}.\n" + string.Template(body).substitute(values)
        found = parse(text).name
    except (KeyError, ValueError, text_format.ParseError) as error:
        raise ExportError(f"{name}/config.pbtxt: {error!r}. Mend the template in model_repository/{name}.") from error
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

    Raises: ExportError naming the tensor that differs.
    """
    config = parse(text)
    for kind, specs, entries in (("input", stage.inputs, config.input), ("output", stage.outputs, config.output)):
        found = tensors(entries)
        differing = [spec for spec in specs if spec not in found]
        if differing:
            raise ExportError(f"{stage.name}/config.pbtxt lacks {kind} {differing[0]}; it has {found}.")
    added_in = [spec for spec in tensors(config.input) if spec not in stage.inputs]
    added_out = [spec for spec in tensors(config.output) if spec not in stage.outputs]
    if set(added_in) != set(added_out):
        raise ExportError(
            f"{stage.name}/config.pbtxt takes {added_in} and gives {added_out} beside the graph's own; what is not the"
            " graph's must be handed on under its name, with its type and shape."
        )

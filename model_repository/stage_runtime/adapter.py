"""The server's python backend on one side, a stage on the other. Every stage's model.py is such a class with a name."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import (
    BESIDE_GRAPH,
    BUILD_INFO,
    BY_SOUND,
    CLASS_HEAD,
    CLIP,
    FRAMES,
    LAUNCH_VARIABLE,
    MASK_STRIDE,
    PROMPT_MODE,
    STATUS,
    TICKET,
    Parameter,
    Reason,
    error_text,
)

from .adapters.stages import AdaptedFramesStage, adapters_input, has_adapters, prompt_features
from .admission.clip_table import ClipTable, table_path
from .admission.passage import Passage, Role
from .admission.telemetry import Telemetry
from .engine import Array, cache_dir_from_environment, check_hash, load_engine, resolve_precision
from .engine.refusals import NotAdmitted, Refusal
from .engine.stage import ClipStage, Stage, TensorShape
from .frames.encoded import Decoding, EncodedFrames
from .frames.stages import FramesStage
from .prompts.decoder import PromptedDecoder
from .prompts.reading import ClipSize
from .prompts.stages import DecoderStage, SoundStage
from .reception import Reception

MODEL_FILE = "model.onnx"
# What the server's python backend calls gRPC's statuses.
_STATUS_NAMES = {"INVALID_ARGUMENT": "INVALID_ARG"}
FAULT = "failed inside the server; see its log."
CANCELLED = "cancelled by the caller before it ran."

# A stage: a request's tensors and its optional ones, by name -> the answer.
Logic = Callable[[Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]


class Parts(NamedTuple):
    """What a stage's logic is made of."""

    stage: ClipStage
    outputs: list[TensorShape]
    shapes: Mapping[str, TensorShape]
    """Of all inputs and outputs, by name; the clip's own tensor first."""
    parameters: Mapping[str, str]
    folder: Path
    """Where the graphs lie."""


def tensor_shapes(entries: list[dict[str, Any]]) -> list[TensorShape]:
    """Read the tensors of a model's configuration."""
    return [
        TensorShape(
            entry["name"],
            np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"])),
            tuple(int(dim) for dim in entry["dims"]),
        )
        for entry in entries
    ]


def optional_inputs(config: Mapping[str, Any]) -> list[str]:
    """Name a model's optional inputs."""
    return [entry["name"] for entry in config["input"] if entry.get("optional")]


class StageModel:
    """Answers each request by itself: one bad request fails alone, with its own message and INVALID_ARGUMENT."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check the graph's hash, load it, compare it with config.pbtxt. Any failure stops the server's start."""
        config = json.loads(args["model_config"])
        # What says nothing may come without its value.
        parameters = {name: value.get("string_value", "") for name, value in config["parameters"].items()}
        self._name, folder = args["model_name"], Path(args["model_repository"]) / args["model_version"]
        optional = optional_inputs(config)
        self._optional = [name for name in optional if name != TICKET]
        self._input_names = [entry["name"] for entry in config["input"] if entry["name"] not in optional]
        shapes = {tensor.name: tensor for tensor in (*tensor_shapes(config["input"]), *tensor_shapes(config["output"]))}
        outputs = [shapes[entry["name"]] for entry in config["output"] if entry["name"] not in BESIDE_GRAPH]
        # A clip's own tensors are optional, for this server does not name one that is missing; the graph takes them.
        inputs = [tensor for tensor in shapes.values() if tensor.name in (*self._input_names, *CLIP)]
        self._stage, precision = self.load_stage(args, parameters, inputs, outputs)
        pb_utils.Logger.log_info(f"{self._name}: {parameters[Parameter.ENGINE]} computes in {precision}")
        self._logic = self.logic(Parts(self._stage, outputs, shapes, parameters, folder))
        self._told = told_by(parameters)
        labels = {"model": parameters.get(Parameter.PRESET, ""), "precision": precision}
        # Every stage of a server is a child of the same process.
        table = ClipTable(table_path(os.environ.get(LAUNCH_VARIABLE, ""), os.getppid()))
        role = Role.from_parameters(self._name, parameters)
        self._reception = Reception.of_this_server()
        self._passage = Passage(role, table, Telemetry(pb_utils, labels), int(config["input"][0]["dims"][0]))

    def load_stage(
        self,
        args: Mapping[str, str],
        parameters: Mapping[str, str],
        inputs: list[TensorShape],
        outputs: list[TensorShape],
    ) -> tuple[ClipStage, str]:
        """Load what computes, and tell in which precision. Here: a graph in the engine of a CPU."""
        path = Path(args["model_repository"]) / args["model_version"] / MODEL_FILE
        check_hash(path, parameters[Parameter.SHA256])
        kind = parameters[Parameter.ENGINE]
        precision = resolve_precision(kind, parameters[Parameter.PRECISION])
        engine = load_engine(kind, path, precision=precision, cache_dir=cache_dir_from_environment())
        own = self.own_inputs(parameters, inputs)
        return Stage(engine, inputs, outputs, int(parameters[Parameter.FRAMES_PER_CALL]), own), precision

    def own_inputs(self, parameters: Mapping[str, str], inputs: list[TensorShape]) -> list[TensorShape]:
        """List what the graph takes from this code, and no caller sends. Here: nothing."""
        return []

    def read(self, tensor: Any) -> Any:
        """Read a request's tensor. Here: as numpy has it."""
        return tensor.as_numpy()

    def write(self, name: str, value: Any) -> Any:
        """Write an answer's tensor."""
        return pb_utils.Tensor(name, value)

    def logic(self, parts: Parts) -> Logic:
        """Choose what answers a request. Here: the stage, which knows no optional tensors."""
        return lambda inputs, optional: parts.stage(inputs)

    def explain(self, error: Exception) -> Refusal | None:
        """Say what an error means to a caller; None: it is our own, and its words stay in the log."""
        return None

    def finalize(self) -> None:
        self._passage.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        # The server reads the answers after the last of them is computed, and an answer's arrays are the engine's own
        # memory, valid until its next call. A lone request, the only case without a batcher, needs no copy.
        return [self._answer(request, keep=len(requests) > 1) for request in requests]

    def _answer(self, request: Any, keep: bool) -> Any:
        passage, ticket, asker = self._passage, self._ticket(request), self._reception.read(request)
        if request.is_cancelled():
            passage.fail(asker, ticket, Reason.CANCELLED)
            return refuse_request(Reason.CANCELLED, f"{self._name}: {CANCELLED}")
        try:
            clip = passage.enter(asker, ticket, request.timeout())
            ticket = clip.ticket
            inputs = {name: self.read(pb_utils.get_input_tensor_by_name(request, name)) for name in self._input_names}
            given = read_optional(request, self._optional, self.read)
            answer = self._logic(inputs, given)
            named = {TICKET: np.frombuffer(ticket, np.uint8).copy(), **self._told}
            response = answer_request({**answer, **named}, request, keep=keep, write=self.write)
            passage.leave(clip, {**inputs, **given}, prompts_of(answer))
            return response
        except NotAdmitted as refusal:
            return refuse_request(refusal.reason, f"{self._name}: {refusal}")
        except Refusal as refusal:
            passage.fail(asker, ticket, refusal.reason)
            return refuse_request(refusal.reason, str(refusal))
        except Exception as error:  # noqa: BLE001  (the server would send file paths and lines to the client)
            pb_utils.Logger.log_error(f"{self._name}: request {request.request_id()!r} failed: {error!r}")
            failed = self.explain(error)
            reason = Reason.FAULT if failed is None else failed.reason
            passage.fail(asker, ticket, reason)
            return refuse_request(reason, f"{self._name}: {FAULT}" if failed is None else str(failed))

    def _ticket(self, request: Any) -> bytes | None:
        """Read what the stages know a clip by; None in the first of them, and for a caller that names one by itself."""
        tensor = pb_utils.get_input_tensor_by_name(request, TICKET)
        # From a card too, whatever kind of array it is there.
        return None if tensor is None else bytes(self.read(tensor).tolist())


class SoundModel(StageModel):
    """A stage that rests when a request switches the sound off. The one that sees prompts and files refuses bad."""

    def logic(self, parts: Parts) -> Logic:
        if "MASK_INPUT" not in parts.shapes:
            return SoundStage(parts.stage, parts.outputs)
        clip = clip_size(parts)
        return SoundStage(parts.stage, parts.outputs, clip, encoded_frames(parts.parameters, clip))


class ImageModel(StageModel):
    """The stage of the frames, raw or encoded."""

    def logic(self, parts: Parts) -> Logic:
        num_frames, image_size, *_ = parts.shapes[FRAMES].shape
        encoded = encoded_frames(parts.parameters, ClipSize(num_frames, image_size, 0))
        encoded.find_library()
        decoding = self.decoding(encoded, parts)
        if has_adapters(parts.parameters):
            return AdaptedFramesStage(parts.stage, decoding, parts.shapes)
        return FramesStage(parts.stage, decoding)

    def own_inputs(self, parameters: Mapping[str, str], inputs: list[TensorShape]) -> list[TensorShape]:
        """List whether adapters add, where there are some."""
        return [adapters_input(inputs[0])] if has_adapters(parameters) else []

    def decoding(self, encoded: EncodedFrames, parts: Parts) -> Decoding:
        """Choose what decodes files. Here: the CPU."""
        return encoded


class DecoderModel(StageModel):
    """The decoder, with SAM2's own prompts beside the sound."""

    def logic(self, parts: Parts) -> Logic:
        engine, precision = parts.parameters[Parameter.ENGINE], parts.parameters[Parameter.PRECISION]
        decoder = PromptedDecoder.load(parts.folder, engine, precision, cache_dir_from_environment())
        head, sha256 = None, parts.parameters.get(Parameter.CLASS_HEAD_SHA256, "")
        if sha256:
            path = parts.folder / f"{CLASS_HEAD}.onnx"
            check_hash(path, sha256)
            head = load_engine(engine, path, precision=precision, cache_dir=cache_dir_from_environment())
        return DecoderStage(parts.stage, decoder, clip_size(parts), prompt_features(parts.parameters), head)


def clip_size(parts: Parts) -> ClipSize:
    """Read the size from a mask's side: a stage that takes prompts sees no frame."""
    first, mask = next(iter(parts.shapes.values())), parts.shapes["MASK_INPUT"]
    conditioning_frame = int(parts.parameters[Parameter.CONDITIONING_FRAME])
    return ClipSize(first.shape[0], MASK_STRIDE * mask.shape[0], conditioning_frame)


def encoded_frames(parameters: Mapping[str, str], clip: ClipSize) -> EncodedFrames:
    """Make what reads FRAMES_ENCODED, with the limit that the build names."""
    return EncodedFrames(clip.num_frames, clip.image_size, int(parameters[Parameter.MAX_ENCODED_FRAME_BYTES]))


def told_by(parameters: Mapping[str, str]) -> dict[str, Array]:
    """Make the output that says what is served, of a model that has the parameter for it; of others none."""
    info = parameters.get(Parameter.BUILD_INFO)
    return {} if info is None else {BUILD_INFO: np.array([info.encode()], np.object_)}


def prompts_of(answer: Mapping[str, Array]) -> str:
    """Tell what an answer was made from; of a stage that does not say, "audio"."""
    return answer[PROMPT_MODE].item().decode() if PROMPT_MODE in answer else BY_SOUND


def read_optional(
    request: Any, names: Iterable[str], read: Callable[[Any], Any] = lambda tensor: tensor.as_numpy()
) -> dict[str, Array]:
    """Read those of a request's optional tensors that came, by name."""
    tensors = ((name, pb_utils.get_input_tensor_by_name(request, name)) for name in names)
    return {name: read(tensor) for name, tensor in tensors if tensor is not None}


def answer_request(
    answer: Mapping[str, Any],
    request: Any,
    *,
    keep: bool = False,
    write: Callable[[str, Any], Any] = lambda name, value: pb_utils.Tensor(name, value),
) -> Any:
    """Answer with the outputs that were asked for.

    Args:
        keep: as copies, for another answer comes before they are read.
        write: makes the server's tensor of a name and a value.
    """
    wanted = set(request.requested_output_names())
    tensors = [write(name, value.copy() if keep else value) for name, value in answer.items() if name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def refuse_request(reason: Reason, message: str) -> Any:
    """Answer with a reason, which reaches callers here alone: a status of gRPC, and a code before the words."""
    return refuse_with_status(error_text(reason, message), status_of(reason))


def refuse_with_status(text: str, status: Any) -> Any:
    """Answer with an error in the words and with the status of another model."""
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(text, status))


def status_of(reason: Reason) -> Any:
    """Give the status that goes with a reason, as the server's python backend has it."""
    name = STATUS[reason]
    return getattr(pb_utils.TritonError, _STATUS_NAMES.get(name, name))

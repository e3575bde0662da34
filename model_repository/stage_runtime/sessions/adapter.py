"""The server's python backend on one side, `Sessions` on the other: sequence batching, and the stages by BLS."""

import contextlib
import ctypes
import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import (
    CLIP,
    DECODER,
    ENCODED_FRAMES,
    ENDED,
    FEATURES_ENSEMBLE,
    IMAGE_FEATURES,
    LAUNCH_VARIABLE,
    PROMPT_MODE,
    RESULTS,
    ROUNDS_UNDER_WAY_METRIC,
    SOUND_FEATURES,
    WISHES,
    Parameter,
    Reason,
    StageRecord,
    error_text,
    read_error,
)

from ..adapter import (
    CANCELLED,
    FAULT,
    answer_request,
    optional_inputs,
    prompts_of,
    read_optional,
    refuse_request,
    refuse_with_status,
    status_of,
)
from ..admission.clip_table import ClipTable, table_path
from ..admission.closing import refuse_while_closing
from ..admission.request_line import RequestLine
from ..admission.telemetry import Telemetry
from ..engine import Array, cache_dir_from_environment
from ..engine.refusals import BadRequest, Refusal
from ..forms.masks import in_form
from ..forms.wish import read_wish
from ..frames.stages import check_one_form
from ..prompts.decoder import PromptedDecoder
from ..prompts.reading import ClipSize
from ..prompts.stages import mode_tensor
from .rounds import SessionDecoder
from .sessions import Encoded, Limits, Sessions

# What the first round brings, and no other.
OF_CLIP = (*CLIP, ENCODED_FRAMES)
# Idle sessions are looked for this often within their time-out.
SWEEPS = 8
# Of metrics, and the parameters that they come from.
LABELS = {"model": Parameter.PRESET, "precision": Parameter.PRECISION}


class StageFailed(RuntimeError):
    """A stage refused or failed. Its reason and words go on to the session's caller.

    `status` is the reason's; where there is none, the server's own. An ensemble's refusal reaches a model as INTERNAL.
    """

    def __init__(self, text: str, status: Any) -> None:
        reason, words = read_error(text)
        super().__init__(words if reason is None else error_text(reason, words))
        self.status = status if reason is None else status_of(reason)
        self.reason = reason or Reason.FAULT


class SessionModel:
    """A sequence is a session: its first request brings FRAMES and AUDIO, later ones prompts only."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        shapes = {entry["name"]: [int(dim) for dim in entry["dims"]] for entry in config["input"]}
        clip = ClipSize(shapes["FRAMES"][0], shapes["FRAMES"][1], int(parameters[Parameter.CONDITIONING_FRAME]))
        self._name, self._num_frames = args["model_name"], clip.num_frames
        self._line = RequestLine(self._name)
        self._optional = [name for name in optional_inputs(config) if name not in (*OF_CLIP, *WISHES)]
        limits = limits_from_environment(parameters)
        folder = Path(args["model_repository"]).parent / DECODER / args["model_version"]
        self._sessions = Sessions(self.load_decoder(args, parameters, folder), clip, limits)
        # The same as the stages' own: a clip that stops before the decoder has to be let go from here.
        self._clips = ClipTable(table_path(os.environ.get(LAUNCH_VARIABLE, ""), os.getppid()))
        # On cards there is an instance for each; what they keep is added up by whoever reads it.
        self._where = (
            {"gpu": args["model_instance_device_id"]} if args.get("model_instance_kind") == "GPU" else dict[str, str]()
        )
        self._telemetry = Telemetry(pb_utils, {name: parameters.get(key, "") for name, key in LABELS.items()})
        self._tell()
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, args=(limits.idle_timeout_s / SWEEPS,), daemon=True)
        self._sweeper.start()

    def load_decoder(self, args: Mapping[str, str], parameters: Mapping[str, str], folder: Path) -> SessionDecoder:
        """Load what decodes rounds. Here: the graphs in the decoder's `folder`, in the engine of a CPU."""
        kind, precision = parameters[Parameter.ENGINE], parameters[Parameter.PRECISION]
        return PromptedDecoder.load(folder, kind, precision, cache_dir_from_environment())

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        self._closing.set()
        self._sweeper.join(5)

    def _answer(self, request: Any) -> Any:
        name, began_s = request.request_id() or f"session-{uuid.uuid4().hex}", time.monotonic()
        told: StageRecord = {"session": True, "ends": True}
        try:
            return self._answer_by(name, request, told)
        finally:
            self._line.tell(name, time.monotonic() - began_s, told)

    def _answer_by(self, name: str, request: Any, told: StageRecord) -> Any:
        """Answer a request that the stages know by `name`; what became of it goes into `told`."""
        if request.is_cancelled():
            told["reason"] = Reason.CANCELLED
            return refuse_request(Reason.CANCELLED, f"{self._name}: {CANCELLED}")
        try:
            refuse_while_closing()
            self._telemetry.set(ROUNDS_UNDER_WAY_METRIC, 1, **self._where)
            # Of one answer, and no part of the round: one that is repeated may ask for another form.
            wish = read_wish(read_optional(request, WISHES))
            answer = in_form(self._round(name, request), wish)
            told["mode"], told["frames"] = prompts_of(answer), self._num_frames
            self._telemetry.count("auralsam2_session_rounds_total", prompts=told["mode"])
            return answer_request(answer, request)
        except Refusal as refusal:
            told["reason"] = refusal.reason
            return refuse_request(refusal.reason, str(refusal))
        except StageFailed as error:
            told["reason"] = error.reason
            return refuse_with_status(str(error), error.status)
        except Exception as error:  # noqa: BLE001  (the server would send file paths and lines to the client)
            pb_utils.Logger.log_error(f"{self._name}: request {request.request_id()!r} failed: {error!r}")
            failed = self.explain(error)
            told["reason"] = Reason.FAULT if failed is None else failed.reason
            if failed is not None:
                return refuse_request(failed.reason, str(failed))
            return refuse_request(Reason.FAULT, f"{self._name}: {FAULT}")
        finally:
            self._telemetry.set(ROUNDS_UNDER_WAY_METRIC, 0, **self._where)
            self._tell()

    def _round(self, name: str, request: Any) -> dict[str, Array]:
        start, end, key = (_read(request, name).reshape(-1)[0] for name in ("START", "END", "CORRID"))
        tensors = {name: _read(request, name) for name in self._optional if _has(request, name)}
        try:
            if start:
                came = {name: name for name in OF_CLIP if _has(request, name)}
                if "AUDIO" not in came:
                    raise BadRequest("AUDIO did not come; a session starts with a clip, frames and sound. Send both.")
                check_one_form(came)
                return self._sessions.open(int(key), lambda sound: self._encode(name, request, sound), tensors)
            if any(_has(request, name) for name in OF_CLIP):
                raise BadRequest("FRAMES or AUDIO came in a later round; a session keeps its clip. Send prompts only.")
            if end and not tensors:
                return {PROMPT_MODE: mode_tensor(ENDED)}
            return self._sessions.round(int(key), tensors)
        finally:
            if end:
                self._sessions.end(int(key))
                self.give_back()

    def _encode(self, name: str, request: Any, sound: bool) -> Encoded:
        # The stages run under its id, and are a part of this round.
        self._line.tell(name, 0.0, {"session": True, "begins": True})
        clip = [pb_utils.get_input_tensor_by_name(request, each) for each in OF_CLIP if _has(request, each)]
        try:
            return self.encode(request, clip, pb_utils.Tensor("USE_AUDIO", np.array([sound])), name)
        finally:
            self._clips.end(name, answered=False)

    def encode(self, request: Any, clip: list[Any], sound: Any, name: str) -> Encoded:
        """Run the clip through the stages: the first three as an ensemble, then the decoder where sound is used.

        Args:
            clip: FRAMES or FRAMES_ENCODED, and AUDIO, as they came; `sound`: USE_AUDIO.
            name: what the stages know the clip by, on its way from one to the next.
        """
        timeout = request.timeout()
        use_audio = bool(sound.as_numpy()[0])
        wanted = (*IMAGE_FEATURES, *SOUND_FEATURES) if use_audio else IMAGE_FEATURES
        found = call_model(FEATURES_ENSEMBLE, [*clip, sound], wanted, request_id=name, timeout=timeout)
        heard = None
        if use_audio:
            by_sound = call_model(DECODER, list(found.values()), RESULTS, request_id=name, timeout=timeout)
            heard = {each: tensor.as_numpy().copy() for each, tensor in by_sound.items()}
        return {each: self.keep(found[each]) for each in IMAGE_FEATURES}, heard

    def keep(self, tensor: Any) -> Any:
        """Copy a feature out of shared memory, which goes back to the backend when the tensor is dropped."""
        return tensor.as_numpy().copy()

    def explain(self, error: Exception) -> Refusal | None:
        """Say what an error means to a caller; None: it is our own, and its words stay in the log."""
        return None

    def give_back(self) -> None:
        """Return freed memory to the system: the allocator would keep maps of less than 32 MiB for itself."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    def _tell(self) -> None:
        self._telemetry.set("auralsam2_sessions", len(self._sessions), **self._where)
        self._telemetry.set("auralsam2_session_bytes", self._sessions.num_bytes, **self._where)

    def _sweep(self, period_s: float) -> None:
        while not self._closing.wait(period_s):
            if self._sessions.sweep():
                self.give_back()
                self._tell()


def limits_from_environment(parameters: Mapping[str, str]) -> Limits:
    """Read the caps of the build, each overruled by a variable that the launcher sets."""

    def value(name: Parameter) -> float:
        return float(os.environ.get(name.variable) or parameters[name])

    return Limits(
        max_sessions=int(value(Parameter.MAX_SESSIONS)),
        max_bytes=int(value(Parameter.MAX_SESSION_BYTES)),
        idle_timeout_s=value(Parameter.SESSION_IDLE_TIMEOUT_S),
        give_way_s=value(Parameter.SESSION_GIVE_WAY_S),
    )


def call_model(model: str, inputs: list[Any], outputs: tuple[str, ...], **marks: Any) -> dict[str, Any]:
    """Call another model of this server and return its outputs by name. Raises: StageFailed."""
    request = pb_utils.InferenceRequest(model_name=model, requested_output_names=list(outputs), inputs=inputs, **marks)
    response = request.exec()
    if response.has_error():
        raise StageFailed(response.error().message(), response.error().code())
    return {name: pb_utils.get_output_tensor_by_name(response, name) for name in outputs}


def _has(request: Any, name: str) -> bool:
    return pb_utils.get_input_tensor_by_name(request, name) is not None


def _read(request: Any, name: str) -> Array:
    value: Array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return value

"""The server's python backend on one side, `Sessions` on the other, and the stages by BLS.

Sessions are no sequences of the server's: those are known by numbers that callers choose, are kept for an hour each
though nobody was let in, and end the server (2.51) where a number is a text. So the server sees requests, and knows
nothing of sessions; sequence numbers in a request are not looked at.
"""

import contextlib
import ctypes
import json
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import (
    CLIP,
    DECODER,
    ENCODED_FRAMES,
    END,
    ENDED,
    FEATURES_ENSEMBLE,
    IMAGE_FEATURES,
    LAUNCH_VARIABLE,
    OPENING,
    PROMPT_MODE,
    PROMPTS_COME,
    RESULTS,
    ROUNDS_UNDER_WAY_METRIC,
    SESSION_ID,
    TICKET,
    WISHES,
    Parameter,
    Reason,
    StageRecord,
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
)
from ..adapters.stages import prompt_features, sound_features
from ..admission.asker import Asker
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
from ..reception import Reception
from .naming import SessionNames, key_of
from .rounds import SessionDecoder
from .sessions import Encode, Encoded, Limits, Sessions
from .stage_calls import StageFailed, call_model

# What the first round brings, and no other.
OF_CLIP = (*CLIP, ENCODED_FRAMES)
# What says which session, and is no part of a round.
OF_SESSION = (SESSION_ID, OPENING, END)
OLDER_CLIENT = (
    "A session is known by the SESSION_ID of its first answer, which its later rounds carry; sequence ids are not"
    " looked at. Update the client to this server's version."
)
# Idle sessions are looked for this often within their time-out.
SWEEPS = 8
# Of metrics, and the parameters that they come from.
LABELS = {"model": Parameter.PRESET, "precision": Parameter.PRECISION}


class SessionModel:
    """The first request of a session brings FRAMES and AUDIO, later ones its SESSION_ID and prompts only."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        shapes = {entry["name"]: [int(dim) for dim in entry["dims"]] for entry in config["input"]}
        clip = ClipSize(shapes["FRAMES"][0], shapes["FRAMES"][1], int(parameters[Parameter.CONDITIONING_FRAME]))
        self._name, self._num_frames = args["model_name"], clip.num_frames
        self._line = RequestLine(self._name)
        self._optional = [name for name in optional_inputs(config) if name not in (*OF_CLIP, *WISHES, *OF_SESSION)]
        self._prompt_features, self._sound_features = prompt_features(parameters), sound_features(parameters)
        limits = limits_from_environment(parameters)
        folder = Path(args["model_repository"]).parent / DECODER / args["model_version"]
        self._sessions = Sessions(self.load_decoder(args, parameters, folder), clip, limits)
        self._names, self._reception = SessionNames(), Reception.of_this_server()
        # The same as the stages' own.
        self._clips = ClipTable(table_path(os.environ.get(LAUNCH_VARIABLE, ""), os.getppid()))
        # Sessions lie on one card.
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
        asker, began_s = replace(self._reception.read(request), round=secrets.token_hex(8)), time.monotonic()
        told: StageRecord = {"session": True, "ends": True}
        try:
            return self._answer_to(asker, request, told)
        finally:
            self._tell_of(asker, time.monotonic() - began_s, told)

    def _answer_to(self, asker: Asker, request: Any, told: StageRecord) -> Any:
        """Answer a request; what became of it goes into `told`."""
        if request.is_cancelled():
            told["reason"] = Reason.CANCELLED
            return refuse_request(Reason.CANCELLED, f"{self._name}: {CANCELLED}")
        try:
            refuse_while_closing()
            self._telemetry.set(ROUNDS_UNDER_WAY_METRIC, 1, **self._where)
            # Of one answer, and no part of the round: one that is repeated may ask for another form.
            wish = read_wish(read_optional(request, WISHES))
            answer = in_form(self._round(request, asker), wish)
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

    def _round(self, request: Any, asker: Asker) -> dict[str, Array]:
        tensors = {name: _read(request, name) for name in self._optional if _has(request, name)}
        given = _text(request, SESSION_ID)
        end = _has(request, END) and bool(_read(request, END).reshape(-1)[0])
        name = self._open_name(request, asker) if given is None else given.decode(errors="replace")
        key = key_of(asker.caller, name.encode() if given is None else given)
        named = {SESSION_ID: np.array([name.encode()], np.object_)}
        try:
            if given is None:
                return self._sessions.open(key, asker.caller, self._encoder(request, asker), tensors) | named
            if any(_has(request, each) for each in OF_CLIP):
                raise BadRequest("FRAMES or AUDIO came in a later round; a session keeps its clip. Send prompts only.")
            if end and not tensors:
                if not self._sessions.holds(key):
                    raise self._sessions.make_refusal(key)
                return {PROMPT_MODE: mode_tensor(ENDED)} | named
            return self._sessions.round(key, tensors) | named
        finally:
            if end:
                self._sessions.end(key)
                self.give_back()

    def _open_name(self, request: Any, asker: Asker) -> str:
        """Name a session that a request opens. Raises: BadRequest where it brings no clip, or could not go on."""
        came = {each: each for each in OF_CLIP if _has(request, each)}
        if "AUDIO" not in came:
            raise BadRequest(
                f"Neither {SESSION_ID} nor AUDIO came; a session starts with a clip, frames and sound. Send both."
                f" {OLDER_CLIENT}"
            )
        check_one_form(came)
        if SESSION_ID not in request.requested_output_names():
            raise BadRequest(f"The output {SESSION_ID} was not asked for. {OLDER_CLIENT}")
        return self._names.draw(asker.caller, _text(request, OPENING))

    def _encoder(self, request: Any, asker: Asker) -> Encode:
        def encode(use_audio: bool) -> Encoded:
            # The stages say of what they do that it is a part of this round.
            self._tell_of(asker, 0.0, {"session": True})
            clip = [pb_utils.get_input_tensor_by_name(request, each) for each in OF_CLIP if _has(request, each)]
            sound = pb_utils.Tensor("USE_AUDIO", np.array([use_audio]))
            marks = {
                # What this model asks is believed, so that a caller's own words must not be taken for the service's.
                "request_id": request.request_id() if asker.golden else f"session-{request.request_id()}",
                "timeout": request.timeout(),
                "parameters": self._reception.pass_on(asker, asker.round),
            }
            return self.encode(clip, sound, marks)

        return encode

    def encode(self, clip: list[Any], sound: Any, marks: Mapping[str, Any]) -> Encoded:
        """Run the clip through the stages: the first three as an ensemble, then the decoder where sound is used.

        Args:
            clip: FRAMES or FRAMES_ENCODED, and AUDIO, as they came; `sound`: USE_AUDIO.
            marks: of each request to a stage: whose it is, and how long its caller waits.
        """
        use_audio, of_prompts = bool(sound.as_numpy()[0]), self._prompt_features
        wanted = (*dict.fromkeys((*IMAGE_FEATURES, *of_prompts)), *(self._sound_features if use_audio else ()), TICKET)
        # Only models whose features for prompts are others know the word.
        coming = [pb_utils.Tensor(PROMPTS_COME, np.array([True]))] if of_prompts != IMAGE_FEATURES else []
        found = call_model(FEATURES_ENSEMBLE, [*clip, sound, *coming], wanted, **marks)
        heard = None
        try:
            if use_audio:
                by_sound = call_model(DECODER, list(found.values()), RESULTS, **marks)
                heard = {each: tensor.as_numpy().copy() for each, tensor in by_sound.items()}
            return dict(zip(IMAGE_FEATURES, (self.keep(found[each]) for each in of_prompts), strict=True)), heard
        finally:
            # A clip that does not reach the decoder has to be let go from here.
            self._clips.end(self.ticket_of(found[TICKET]), answered=False)

    def ticket_of(self, tensor: Any) -> bytes:
        """Read a clip's ticket."""
        return bytes(tensor.as_numpy().tolist())

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

    def _tell_of(self, asker: Asker, seconds: float, told: StageRecord) -> None:
        self._line.tell(asker.round, replace(asker, round=""), seconds, told)

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


def _has(request: Any, name: str) -> bool:
    return pb_utils.get_input_tensor_by_name(request, name) is not None


def _read(request: Any, name: str) -> Array:
    value: Array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return value


def _text(request: Any, name: str) -> bytes | None:
    """Read a text, as bytes or as it is otherwise; None where it did not come."""
    if not _has(request, name):
        return None
    value = _read(request, name).reshape(-1)[0]
    return value if isinstance(value, bytes) else str(value).encode()

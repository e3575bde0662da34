"""A clip on the wire: its shape, the checks before it is sent, the request, the answer, and the errors in between."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from auralsam2_client.errors import (
    AuralServeError,
    BadInput,
    ConfigError,
    ServerFault,
    ServerTimeout,
    ServerUnavailable,
    SessionEnded,
)
from auralsam2_client.media.frames import resize_frames

WINDOW = 15600  # samples that one frame hears: 0.975 s at 16 kHz
OUTPUTS = ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")
USUAL_OUTPUTS = ("MASK_LOGITS", "IOU", "OBJECT_SCORE")
# What made the answer, a text; from a model that takes prompts.
MODE_OUTPUT = "PROMPT_MODE"
SESSION_SUFFIX = "_session"

Arrays = dict[str, NDArray[Any]]

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # A server that was restarted is found again within two seconds; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True)
class ClipShape:
    """What the served model takes: clips of `num_frames` square frames, `image_size` px a side."""

    num_frames: int
    image_size: int
    takes_prompts: bool = False


@dataclass(frozen=True, eq=False)
class Call:
    """One request: tensors by name, the outputs that are wanted, and for a session its place in the sequence."""

    tensors: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    sequence: Mapping[str, Any] = field(default_factory=dict)


def read_clip_shape(model: str, metadata: Any) -> ClipShape:
    shapes = {item.name: list(item.shape) for item in metadata.inputs}
    frames = shapes.get("FRAMES", [])
    if len(frames) != 4 or frames[1] != frames[2] or shapes.get("AUDIO", [])[1:] != [WINDOW, 2]:
        raise ConfigError(
            f"Model {model!r} takes {shapes}; FRAMES [T, S, S, 3] and AUDIO [T, {WINDOW}, 2] are needed. "
            "Name the ensemble, 'auralsam2'."
        )
    return ClipShape(frames[0], frames[1], "POINT_COORDS" in shapes)


def check_takes_prompts(shape: ClipShape) -> None:
    if not shape.takes_prompts:
        raise ConfigError(
            "The served build takes no prompts and has no sessions: it is one for GPUs, or of an earlier version. Serve"
            " one that was exported with --target cpu, or leave the prompts out."
        )


def check_clip(frames: NDArray[np.uint8], audio: NDArray[np.float32], shape: ClipShape) -> None:
    size = shape.image_size
    _check_array("frames", frames, np.uint8, (shape.num_frames, size, size, 3))
    _check_audio(audio, (shape.num_frames,))


def _check_audio(audio: NDArray[np.float32], num_windows: tuple[int, ...]) -> None:
    expected = (num_windows[0], WINDOW, 2)
    if isinstance(audio, np.ndarray) and audio.ndim == 3 and audio.shape[0] in num_windows:
        expected = (audio.shape[0], WINDOW, 2)
    _check_array("audio", audio, np.float32, expected)
    finite = np.isfinite(audio)
    if not finite.all():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), audio.shape))
        raise BadInput(
            f"audio is {audio[first]} at {first}; every sample must be finite. Repair or cut the sound there."
        )


def _check_array(name: str, value: Any, dtype: type[np.generic], expected: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray):
        raise BadInput(f"{name} is a {type(value).__name__}; must be a numpy array. Convert it with np.asarray.")
    if value.dtype != dtype:
        raise BadInput(f"{name} has dtype {value.dtype}; must be {np.dtype(dtype)}. Convert it with .astype.")
    if value.shape != expected:
        raise BadInput(
            f"{name} has shape {list(value.shape)}; this model takes {list(expected)}. "
            "Client.segment resizes frames and fills up short clips."
        )


def prepared(
    frames: NDArray[np.uint8], audio: NDArray[np.float32], shape: ClipShape
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    T = shape.num_frames
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        found = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise BadInput(f"frames are {found}; must be a numpy array, uint8 [N, H, W, 3]. Convert them to RGB bytes.")
    N = len(frames)
    if not 1 <= N <= T:
        raise BadInput(f"The clip has {N} frames; this model takes 1 to {T}. Cut it into clips of at most {T}.")
    _check_audio(audio, (T, N))
    resized = np.asarray(resize_frames(frames, shape.image_size))
    return _filled_up(resized, T), _filled_up(audio, T)


def _filled_up(values: NDArray[Any], length: int) -> NDArray[Any]:
    if len(values) == length:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def clip_tensors(
    frames: NDArray[np.uint8], audio: NDArray[np.float32], prompts: Mapping[str, NDArray[Any]] | None = None
) -> Arrays:
    return {"FRAMES": frames, "AUDIO": audio, **(prompts or {})}


_TYPES = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "bool": "BOOL"}


def written(module: Any, call: Call) -> tuple[list[Any], list[Any]]:
    """Inputs and wanted outputs, as `module` (the blocking or the asyncio library) puts them."""
    known = (*OUTPUTS, MODE_OUTPUT)
    unknown = [name for name in call.outputs if name not in known]
    if unknown or not call.outputs or isinstance(call.outputs, str):
        raise BadInput(f"outputs = {call.outputs!r}; must be one or more of {', '.join(known)}.")
    inputs = []
    for name, value in call.tensors.items():
        kind = _TYPES.get(value.dtype.name)
        if kind is None:
            raise BadInput(f"{name} is {value.dtype}; tensors on the wire are {', '.join(_TYPES)}. Use .astype.")
        inputs.append(module.InferInput(name, list(value.shape), kind).set_data_from_numpy(value))
    return inputs, [module.InferRequestedOutput(name) for name in dict.fromkeys(call.outputs)]


def read_answer(result: Any, outputs: Sequence[str]) -> Arrays:
    arrays: Arrays = {}
    for name in outputs:
        value = result.as_numpy(name)
        if value is None:
            raise ServerFault(f"The server answered without {name}, which was asked for. Restart it; see its log.")
        arrays[name] = value
    return arrays


# A channel that was closed, or closed during the call, answers with ValueError.
WIRE_ERRORS = (InferenceServerException, grpc.RpcError, ValueError)


def translate(error: Exception, *, url: str, timeout_s: float) -> AuralServeError:
    """The one place where the errors of the gRPC libraries become the service's own."""
    if isinstance(error, InferenceServerException):
        # "StatusCode.INVALID_ARGUMENT"; the library's own checks carry no status.
        code, text = str(error.status() or "").rpartition(".")[2], str(error.message() or "")
    elif isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        code, text = error.code().name, str(error.details())
    else:
        code, text = "", str(error)
        if isinstance(error, ValueError) and "closed" not in text.lower():
            return BadInput(f"The request cannot be written: {scrub(text)}. Check the arrays.")
    text = scrub(text)
    if code == "INVALID_ARGUMENT" and _ENDED.search(text):
        return SessionEnded(f"The server at {url} does not know this session (any more): {text}")
    if code == "INVALID_ARGUMENT":
        return BadInput(f"The server refused the clip: {text}")
    if code == "DEADLINE_EXCEEDED":
        return ServerTimeout(
            f"No answer from {url} in {timeout_s:g} s. Repeat the call, or give it a longer timeout_s."
        )
    if code == "NOT_FOUND" and "no available versions" not in text:
        return ConfigError(f"The server at {url} does not serve this: {text}. Check the model's name.")
    if code == "RESOURCE_EXHAUSTED" or (code == "UNAVAILABLE" and "queue" in text):
        return ServerUnavailable(f"The server at {url} has no room for this call: {text}. Repeat it after a pause.")
    if code in ("UNAVAILABLE", "NOT_FOUND", "CANCELLED") or (code == "" and "closed" in text.lower()):
        return ServerUnavailable(f"No service at {url}: {text}. Start it (auralsam2 serve), or repeat after a pause.")
    if code in ("UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED"):
        return ConfigError(f"The server at {url} does not allow this call: {text}. Check the address.")
    return ServerFault(f"The server at {url} failed ({code or 'no status'}): {text}. Its log has the cause.")


# The model's own words, and the server's, which forgets a sequence when it starts anew.
_ENDED = re.compile(r"session has ended|must specify the START flag")
_STACK = re.compile(r"\n\s*At:.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w/])(?:/[\w.+@-]+){2,}/?(?:\(\d+\))?")
_REGION = re.compile(r"\bauralsam2_\d+_[\w-]+")


def scrub(text: str) -> str:
    """One line without the server's file paths, stack traces and names of shared memory."""
    text = _REGION.sub("<region>", _PATH.sub("<path>", _STACK.sub("", text)))
    return " ".join(text.split()).rstrip(".")[:400]

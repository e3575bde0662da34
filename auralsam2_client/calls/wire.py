"""A clip on the wire: its shape, the checks before it is sent, the request and the answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import (
    BUILD_INFO,
    CLASS_MAP,
    CLASS_RESULTS,
    DTYPES,
    ENCODED_FRAMES,
    ENSEMBLE,
    JPEG_KEEPS_MASKS,
    MAX_SAMPLE,
    MODELS,
    SESSION_ID,
    TEXT,
    WINDOW_SAMPLES,
)
from auralsam2_client.errors import (
    BadInput,
    ConfigError,
    ServerFault,
)
from auralsam2_client.media.stills.frames import resize_frames

KNOWN_OUTPUTS = (*MODELS[ENSEMBLE].outputs, *CLASS_RESULTS)

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
    takes_files: bool = False
    """Frames may come encoded."""
    jpeg_keeps_masks: bool = False
    """As the build's export measured it."""
    takes_answer: bool = False
    """Whether masks come in other forms than logits."""
    tells_build: bool = False
    """Whether it says what is served."""
    names_classes: bool = False
    """Whether it names what is in the masks."""
    takes_text: bool = False
    """Whether a sentence may say what is meant."""


@dataclass(frozen=True, eq=False)
class Call:
    """One request: tensors by name, and the outputs that are wanted."""

    tensors: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]


def read_clip_shape(model: str, metadata: Any) -> ClipShape:
    """Read what a model takes from its metadata. Raises: ConfigError when it is not the ensemble."""
    shapes = {item.name: list(item.shape) for item in metadata.inputs}
    frames = shapes.get("FRAMES", [])
    if len(frames) != 4 or frames[1] != frames[2] or shapes.get("AUDIO", [])[1:] != [WINDOW_SAMPLES, 2]:
        raise ConfigError(
            f"Model {model!r} takes {shapes}; FRAMES [T, S, S, 3] and AUDIO [T, {WINDOW_SAMPLES}, 2] are needed. "
            f"Name the ensemble, {ENSEMBLE!r}."
        )
    names = {*shapes, *(item.name for item in metadata.outputs)}
    asked = ("POINT_COORDS", ENCODED_FRAMES, JPEG_KEEPS_MASKS, "ANSWER", BUILD_INFO, CLASS_MAP, TEXT)
    return ClipShape(frames[0], frames[1], *(name in names for name in asked))


def check_names_classes(outputs: Sequence[str], shape: ClipShape) -> None:
    """Check that the served model names classes, where they are asked for. Raises: ConfigError."""
    asked = [name for name in outputs if name in CLASS_RESULTS]
    if asked and not shape.names_classes:
        raise ConfigError(
            f"{', '.join(asked)} of a build without classes. Serve one that was exported with --classes, or leave"
            f" {' and '.join(asked)} out."
        )


def check_takes_text(tensors: Iterable[str], shape: ClipShape) -> None:
    """Check that the served model takes text, where some is among the tensors. Raises: ConfigError."""
    if TEXT in tensors and not shape.takes_text:
        raise ConfigError(
            "text for a build without: the served one reads none. Serve one that was exported with --text, or leave the"
            " text out."
        )


def check_takes_prompts(shape: ClipShape) -> None:
    """Check that the served model takes prompts. Raises: ConfigError."""
    if not shape.takes_prompts:
        raise ConfigError(
            "The served build takes no prompts and has no sessions: it is one for GPUs, or of an earlier version. Serve"
            " one that was exported with --target cpu, or leave the prompts out."
        )


def check_clip(frames: NDArray[np.uint8], audio: NDArray[np.float32], shape: ClipShape) -> None:
    """Check that a clip is exactly as the model takes it: [T, S, S, 3] uint8 and [T, 15600, 2] float32 in [-1, 1].

    Raises: BadInput.
    """
    size = shape.image_size
    _check_array("frames", frames, np.uint8, (shape.num_frames, size, size, 3))
    _check_audio(audio, (shape.num_frames,))


def _check_audio(audio: NDArray[np.float32], num_windows: tuple[int, ...]) -> None:
    expected = (num_windows[0], WINDOW_SAMPLES, 2)
    if isinstance(audio, np.ndarray) and audio.ndim == 3 and audio.shape[0] in num_windows:
        expected = (audio.shape[0], WINDOW_SAMPLES, 2)
    _check_array("audio", audio, np.float32, expected)
    finite = np.isfinite(audio)
    if not finite.all():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), audio.shape))
        raise BadInput(
            f"audio is {audio[first]} at {first}; every sample must be finite. Repair or cut the sound there."
        )
    largest = tuple(int(i) for i in np.unravel_index(int(np.abs(audio).argmax()), audio.shape))
    if abs(audio[largest]) > MAX_SAMPLE:
        raise BadInput(
            f"audio is {audio[largest]:g} at {largest}; every sample must lie in [-1, 1]. Divide 16-bit integers by"
            " 32768, and clip what goes beyond full scale."
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


def fit_clip(
    frames: NDArray[np.uint8], audio: NDArray[np.float32], shape: ClipShape
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Bring a clip of any size to what the model takes: check it once, resize it, fill it up with its last frame.

    Args:
        frames: [N, H, W, 3] uint8 RGB, 1 <= N <= T.
        audio: [T, 15600, 2] or [N, 15600, 2] float32 in [-1, 1].
    Returns: frames [T, S, S, 3] uint8 and audio [T, 15600, 2] float32.
    Raises: BadInput.
    """
    T = shape.num_frames
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        found = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise BadInput(f"frames are {found}; must be a numpy array, uint8 [N, H, W, 3]. Convert them to RGB bytes.")
    N = len(frames)
    if not 1 <= N <= T:
        raise BadInput(f"The clip has {N} frames; this model takes 1 to {T}. Cut it into clips of at most {T}.")
    _check_audio(audio, (T, N))
    resized = np.asarray(resize_frames(frames, shape.image_size))
    return _fill_up(resized, T), _fill_up(audio, T)


def _fill_up(values: NDArray[Any], length: int) -> NDArray[Any]:
    if len(values) == length:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def clip_tensors(
    frames: NDArray[np.uint8], audio: NDArray[np.float32], prompts: Mapping[str, NDArray[Any]] | None = None
) -> Arrays:
    """Name the tensors of a clip, and of its prompts, as they go on the wire, frames raw."""
    return {"FRAMES": frames, "AUDIO": audio, **(prompts or {})}


TYPES = {np.dtype(dtype).name: "BYTES" if name == "STRING" else name for name, dtype in DTYPES.items()}
"""Names of types on the wire, by numpy's. The configuration's STRING is BYTES there."""


def check_outputs(outputs: Sequence[str]) -> None:
    """Check that outputs are some of the ensemble's. Raises: BadInput."""
    unknown = [name for name in outputs if name not in (*KNOWN_OUTPUTS, SESSION_ID)]
    if unknown or not outputs or isinstance(outputs, str):
        raise BadInput(f"outputs = {outputs!r}; must be one or more of {', '.join(KNOWN_OUTPUTS)}.")


def encode_request(module: Any, call: Call) -> tuple[list[Any], list[Any]]:
    """Put a call as inputs and wanted outputs of `module`, the blocking or the asyncio library. Raises: BadInput."""
    check_outputs(call.outputs)
    inputs = []
    for name, value in call.tensors.items():
        kind = TYPES.get(value.dtype.name)
        if kind is None:
            raise BadInput(f"{name} is {value.dtype}; tensors on the wire are {', '.join(TYPES)}. Use .astype.")
        inputs.append(module.InferInput(name, list(value.shape), kind).set_data_from_numpy(value))
    return inputs, [module.InferRequestedOutput(name) for name in dict.fromkeys(call.outputs)]


def read_answer(result: Any, outputs: Sequence[str]) -> Arrays:
    """Read the outputs that were asked for. Raises: ServerFault when one is missing."""
    arrays: Arrays = {}
    for name in outputs:
        value = result.as_numpy(name)
        if value is None:
            raise ServerFault(f"The server answered without {name}, which was asked for. Restart it; see its log.")
        arrays[name] = value
    return arrays

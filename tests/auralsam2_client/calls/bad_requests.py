"""What a server or its client must refuse: changed clips, and requests that only another client would send."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.service.toy import build_folder as toy

T, S = toy.T, toy.S


def change(frames: NDArray[Any], audio: NDArray[Any], how: str) -> tuple[Any, Any]:
    bad = audio.copy()
    bad[1, 77, 0] = np.nan
    late = audio.copy()
    late[1, 15599, 1] = -np.inf
    changes: dict[str, tuple[Any, Any]] = {
        "frames dtype": (frames.astype(np.float32), audio),
        "frames rank": (frames[0], audio),
        "frames count": (np.concatenate([frames, frames]), audio),
        "frames size": (frames[:, :16], audio),
        "frames kind": (frames.tolist(), audio),
        "audio dtype": (frames, audio.astype(np.float64)),
        "audio rank": (frames, audio[..., 0]),
        "audio length": (frames, audio[:, :100]),
        "audio nan": (frames, bad),
        "audio inf": (frames, late),
        "audio of 16 bits": (frames, audio * np.float32(32767)),
        "audio beyond": (frames, np.clip(3 * audio, -1.5, 0.5)),
    }
    return changes[how]


def unfit_frames(frames: NDArray[np.uint8]) -> list[Any]:
    """Too many, none, of one channel, of another dtype."""
    return [np.concatenate([frames, frames[:1]]), frames[:0], frames[..., :1], frames.astype(np.int64)]


def good_request(outputs: list[str] | None = None) -> service_pb2.ModelInferRequest:
    frames, audio = toy.clip()
    request = service_pb2.ModelInferRequest(model_name="auralsam2")
    for name, dtype, value in (("FRAMES", "UINT8", frames), ("AUDIO", "FP32", audio)):
        request.inputs.add(name=name, datatype=dtype, shape=value.shape)
        request.raw_input_contents.append(value.tobytes())
    for name in outputs or []:
        request.outputs.add(name=name)
    return request


def raw_call(url: str, request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
    with grpc.insecure_channel(url) as channel:
        return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=5)


def with_frames(shape: list[int], data: bytes | None = None, dtype: str = "UINT8") -> service_pb2.ModelInferRequest:
    request = good_request()
    request.inputs[0].shape[:] = shape
    request.inputs[0].datatype = dtype
    if data is not None:
        request.raw_input_contents[0] = data
    return request


def without_audio() -> service_pb2.ModelInferRequest:
    request = good_request()
    del request.inputs[1]
    del request.raw_input_contents[1]
    return request


def with_text() -> service_pb2.ModelInferRequest:
    request, sentence = good_request(), b"a star"
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(len(sentence).to_bytes(4, "little") + sentence)
    return request


def for_a_stage(shape: list[int]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="vggish")
    request.inputs.add(name="AUDIO", datatype="FP32", shape=shape)
    request.raw_input_contents.append(b"")
    return request


BAD_REQUESTS: dict[str, Callable[[], service_pb2.ModelInferRequest]] = {
    "wrong dtype": lambda: with_frames([T, S, S, 3], dtype="FP32"),
    "wrong rank": lambda: with_frames([T, S, S * 3]),
    "wrong T": lambda: with_frames([1, S, S, 3], bytes(S * S * 3)),
    "one byte short": lambda: with_frames([T, S, S, 3], bytes(T * S * S * 3 - 1)),
    "no data": lambda: with_frames([T, S, S, 3], b""),
    "negative": lambda: with_frames([T, -1, S, 3]),
    "huge and empty": lambda: with_frames([1, 2**62], b""),
    "huge of the right rank": lambda: with_frames([2**62, 4, 1, 1], b""),
    "a stage, huge and empty": lambda: for_a_stage([1, 2**62]),
    "a stage, huge, right rank": lambda: for_a_stage([2**61, 4, 2]),
    "missing input": without_audio,
    "text for a build without": with_text,
    "unknown output": lambda: good_request(["MASKS"]),
}

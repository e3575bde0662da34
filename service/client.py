"""Send a clip, get its masks: a blocking client and an asyncio client over the same checks and the same errors."""

import asyncio
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc
import numpy as np
import tritonclient.grpc as blocking
import tritonclient.grpc.aio as asynchronous
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray

from service.errors import AuralServeError, BadInput, ServerTimeout, ServerUnavailable
from service.masks import to_masks
from service.wire import (
    CHANNEL_OPTIONS,
    USUAL_OUTPUTS,
    WIRE_ERRORS,
    Arrays,
    ClipShape,
    check_clip,
    prepared,
    read_answer,
    read_clip_shape,
    request,
    translate,
)

# The server answers cheap questions (metadata, health) while it computes, so these need not wait long.
QUESTION_TIMEOUT_S = 10.0
RETRY_BASE_S, RETRY_CAP_S = 0.1, 2.0


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer for N frames of height x width; S is the model's image size."""

    mask_logits: NDArray[np.float32]  # [N, S/4, S/4]
    iou: NDArray[np.float32]  # [N, 3]
    object_score: NDArray[np.float32]  # [N]
    height: int
    width: int

    def masks(self) -> NDArray[np.bool_]:
        """Masks at the size of the input, [N, H, W]: upsampled logits > 0."""
        return to_masks(self.mask_logits, (self.height, self.width))


class Client:
    """Blocking client of one ensemble. A context manager; may be shared by threads.

    Args:
        timeout_s: seconds from call to answer, queueing and retries included, unless a call says otherwise.
        retries: how often a call is repeated that met ServerUnavailable, after a random pause, within its deadline.
        caller: begins the id of each request, which the server's log names; its stages follow a clip by it.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        model: str = "auralsam2",
        timeout_s: float = 60.0,
        *,
        retries: int = 0,
        caller: str = "client",
    ) -> None:
        _check_settings(timeout_s, retries)
        self.caller = caller
        self.url, self.model, self.timeout_s, self.retries = url, model, timeout_s, retries
        self._wire = blocking.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS)
        self._shape: ClipShape | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. Calls under way in other threads end with ServerUnavailable."""
        self._wire.close()

    @property
    def num_frames(self) -> int:
        """Frames of a clip, T."""
        return self.clip_shape().num_frames

    @property
    def image_size(self) -> int:
        """Side of a frame on the wire in px, S."""
        return self.clip_shape().image_size

    def clip_shape(self, timeout_s: float = QUESTION_TIMEOUT_S) -> ClipShape:
        """Ask the server once what it takes; the answer is kept until the server goes away."""
        if self._shape is None:
            try:
                metadata = self._wire.get_model_metadata(self.model, client_timeout=timeout_s)
            except WIRE_ERRORS as error:
                raise self._translated(error, timeout_s) from error
            self._shape = read_clip_shape(self.model, metadata)
        return self._shape

    def infer(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32],
        *,
        outputs: Sequence[str] = USUAL_OUTPUTS,
        timeout_s: float | None = None,
    ) -> Arrays:
        """Send one clip exactly as the model takes it and return the outputs asked for, by name.

        Args:
            frames: [T, S, S, 3] uint8 RGB.
            audio: [T, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears.
            outputs: some of MASK_LOGITS [T, S/4, S/4], CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T].
            timeout_s: seconds from call to answer; None is the client's own.
        Raises:
            BadInput: a value above is not met. Nothing was sent, unless the server found it.
            ServerTimeout, ServerUnavailable, ServerFault: no answer; the call is safe to repeat.
            ConfigError: the server does not know the model.
        """
        budget_s = _budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        for pause_s in _pauses(self.retries):
            try:
                shape = self.clip_shape(min(QUESTION_TIMEOUT_S, _left(deadline, budget_s)))
                check_clip(frames, audio, shape)
                return self._send(frames, audio, outputs, deadline, budget_s)
            except ServerUnavailable:
                if pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def segment(
        self, frames: NDArray[np.uint8], audio: NDArray[np.float32], *, timeout_s: float | None = None
    ) -> Segmentation:
        """Segment the sounding objects of one clip of frames of any size.

        Args:
            frames: [N, H, W, 3] uint8 RGB, 1 <= N <= T. A shorter clip is filled up with its last frame for the model.
            audio: [T, 15600, 2] or [N, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears.
            timeout_s: seconds from call to answer; None is the client's own.
        Raises: as `infer`.
        """
        budget_s = _budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        shape = self.clip_shape(min(QUESTION_TIMEOUT_S, budget_s))
        wire_frames, wire_audio = prepared(frames, audio, shape)
        answer = self.infer(wire_frames, wire_audio, timeout_s=_left(deadline, budget_s))
        return _segmentation(answer, frames)

    def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """True when the server says that it and the model are ready. It says so, too, when a stage has died."""
        try:
            return bool(
                self._wire.is_server_ready(client_timeout=timeout_s)
                and self._wire.is_model_ready(self.model, client_timeout=timeout_s)
            )
        except WIRE_ERRORS as error:
            translated = self._translated(error, timeout_s)
            if isinstance(translated, ServerUnavailable | ServerTimeout):
                return False
            raise translated from error

    def _send(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32],
        outputs: Sequence[str],
        deadline: float,
        budget_s: float,
    ) -> Arrays:
        inputs, wanted = request(blocking, frames, audio, outputs)
        try:
            left_s = _left(deadline, budget_s)
            result = self._wire.infer(
                self.model, inputs, outputs=wanted, client_timeout=left_s, **_marks(self.caller, left_s)
            )
        except WIRE_ERRORS as error:
            raise self._translated(error, budget_s) from error
        return read_answer(result, outputs)

    def _translated(self, error: Exception, timeout_s: float) -> AuralServeError:
        translated = translate(error, url=self.url, timeout_s=timeout_s)
        if isinstance(translated, ServerUnavailable):
            self._shape = None  # the server that comes back may serve another build
        return translated


class AsyncClient:
    """The same for asyncio. Construct and use it inside a running loop; arguments and errors as for `Client`."""

    def __init__(
        self, url: str = "127.0.0.1:8001", model: str = "auralsam2", timeout_s: float = 60.0, *, retries: int = 0
    ) -> None:
        _check_settings(timeout_s, retries)
        self.url, self.model, self.timeout_s, self.retries = url, model, timeout_s, retries
        self._wire = asynchronous.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS)
        self._shape: ClipShape | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._wire.close()

    async def clip_shape(self, timeout_s: float = QUESTION_TIMEOUT_S) -> ClipShape:
        """Ask the server once what it takes; the answer is kept until the server goes away."""
        if self._shape is None:
            try:
                metadata = await self._wire.get_model_metadata(self.model, client_timeout=timeout_s)
            except WIRE_ERRORS as error:
                raise self._translated(error, timeout_s) from error
            self._shape = read_clip_shape(self.model, metadata)
        return self._shape

    async def infer(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32],
        *,
        outputs: Sequence[str] = USUAL_OUTPUTS,
        timeout_s: float | None = None,
    ) -> Arrays:
        """As `Client.infer`."""
        budget_s = _budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        for pause_s in _pauses(self.retries):
            try:
                shape = await self.clip_shape(min(QUESTION_TIMEOUT_S, _left(deadline, budget_s)))
                check_clip(frames, audio, shape)
                return await self._send(frames, audio, outputs, deadline, budget_s)
            except ServerUnavailable:
                if pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def segment(
        self, frames: NDArray[np.uint8], audio: NDArray[np.float32], *, timeout_s: float | None = None
    ) -> Segmentation:
        """As `Client.segment`."""
        budget_s = _budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        shape = await self.clip_shape(min(QUESTION_TIMEOUT_S, budget_s))
        wire_frames, wire_audio = await asyncio.to_thread(prepared, frames, audio, shape)
        answer = await self.infer(wire_frames, wire_audio, timeout_s=_left(deadline, budget_s))
        return _segmentation(answer, frames)

    async def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """As `Client.is_ready`."""
        try:
            server = await self._wire.is_server_ready(client_timeout=timeout_s)
            return bool(server and await self._wire.is_model_ready(self.model, client_timeout=timeout_s))
        except WIRE_ERRORS as error:
            translated = self._translated(error, timeout_s)
            if isinstance(translated, ServerUnavailable | ServerTimeout):
                return False
            raise translated from error

    async def _send(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32],
        outputs: Sequence[str],
        deadline: float,
        budget_s: float,
    ) -> Arrays:
        inputs, wanted = request(asynchronous, frames, audio, outputs)
        try:
            left_s = _left(deadline, budget_s)
            result = await self._wire.infer(
                self.model, inputs, outputs=wanted, client_timeout=left_s, **_marks("client", left_s)
            )
        except WIRE_ERRORS as error:
            raise self._translated(error, budget_s) from error
        return read_answer(result, outputs)

    def _translated(self, error: Exception, timeout_s: float) -> AuralServeError:
        translated = translate(error, url=self.url, timeout_s=timeout_s)
        if isinstance(translated, ServerUnavailable):
            self._shape = None
        return translated


def check_health(url: str = "127.0.0.1:8001", service: str = "", *, timeout_s: float = QUESTION_TIMEOUT_S) -> str:
    """Ask by the standard protocol grpc.health.v1, as load balancers do. Returns SERVING, NOT_SERVING, or UNKNOWN.

    Raises: ServerUnavailable, ServerTimeout.
    """
    with grpc.insecure_channel(url, options=CHANNEL_OPTIONS) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            reply = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            raise translate(error, url=url, timeout_s=timeout_s) from error
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _check_settings(timeout_s: float, retries: int) -> None:
    _budget(timeout_s, None)
    if not 0 <= retries <= 10:
        raise BadInput(f"retries = {retries}; must be 0 to 10. More would only add load to a server in trouble.")


def _budget(default_s: float, timeout_s: float | None) -> float:
    budget_s = default_s if timeout_s is None else timeout_s
    if not 0 < budget_s <= 86400:
        raise BadInput(f"timeout_s = {budget_s!r}; must be above 0, at most 86400. Every call has a deadline.")
    return budget_s


def _marks(caller: str, left_s: float) -> dict[str, object]:
    """What the server's stages know a clip by, and until when they need to work on it."""
    return {"request_id": f"{caller}-{uuid.uuid4().hex}", "timeout": max(1, int(1e6 * left_s))}


def _left(deadline: float, budget_s: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise ServerTimeout(f"{budget_s:g} s were over before the clip was sent. Give the call a longer timeout_s.")
    return left_s


def _pauses(retries: int) -> Iterator[float | None]:
    """The pause after each try that fails: any length up to twice the last bound; None after the last try."""
    for attempt in range(retries):
        yield random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2**attempt))  # spreads callers out, hides nothing
    yield None


def _segmentation(answer: Arrays, frames: NDArray[np.uint8]) -> Segmentation:
    N, height, width = frames.shape[:3]
    return Segmentation(answer["MASK_LOGITS"][:N], answer["IOU"][:N], answer["OBJECT_SCORE"][:N], height, width)

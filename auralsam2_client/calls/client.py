"""Send a clip, get its masks: a blocking client and an asyncio client over the same checks and the same errors."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as blocking
import tritonclient.grpc.aio as asynchronous
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray

from auralsam2_client.calls.deadline import budget, check_settings, pauses, time_left
from auralsam2_client.calls.segmentation import Segmentation, clip_with_prompts, segmentation
from auralsam2_client.calls.session import AsyncSession, Rounds, Session
from auralsam2_client.calls.wire import (
    CHANNEL_OPTIONS,
    WIRE_ERRORS,
    Arrays,
    Call,
    ClipShape,
    check_clip,
    check_takes_prompts,
    clip_tensors,
    encode_request,
    read_answer,
    read_clip_shape,
    translate,
)
from auralsam2_client.contract import COMBINATIONS, ENSEMBLE, SESSION_SUFFIX, USUAL_RESULTS, request_id
from auralsam2_client.errors import AuralServeError, ServerTimeout, ServerUnavailable
from auralsam2_client.prompts import Prompts

# The server answers cheap questions (metadata, health) while it computes, so these need not wait long.
QUESTION_TIMEOUT_S = 10.0


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
        model: str = ENSEMBLE,
        timeout_s: float = 60.0,
        *,
        retries: int = 0,
        caller: str = "client",
    ) -> None:
        check_settings(timeout_s, retries)
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
        outputs: Sequence[str] = USUAL_RESULTS,
        prompts: Mapping[str, NDArray[Any]] | None = None,
        timeout_s: float | None = None,
    ) -> Arrays:
        """Send one clip exactly as the model takes it and return the outputs asked for, by name.

        Args:
            frames: [T, S, S, 3] uint8 RGB.
            audio: [T, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears.
            outputs: some of MASK_LOGITS [T, S/4, S/4], CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T],
                PROMPT_MODE [1].
            prompts: tensors of SAM2's own prompts, as `auralsam2_client.prompts` makes them.
            timeout_s: seconds from call to answer; None is the client's own.
        Raises:
            BadInput: a value above is not met. Nothing was sent, unless the server found it.
            ServerTimeout, ServerUnavailable, ServerFault: no answer; the call is safe to repeat.
            ConfigError: the server does not know the model.
        """

        def call(shape: ClipShape) -> Call:
            check_clip(frames, audio, shape)
            if prompts:
                check_takes_prompts(shape)
            return Call(clip_tensors(frames, audio, prompts), outputs)

        return self._call(self.model, call, timeout_s)

    def segment(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        prompts: Prompts | None = None,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Segment one clip of frames of any size: what sounds, what is marked, or both.

        Args:
            frames: [N, H, W, 3] uint8 RGB, 1 <= N <= T. A shorter clip is filled up with its last frame for the model.
            audio: [T, 15600, 2] or [N, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears. May be None
                with use_audio False.
            prompts: points, a box or a mask on one frame, in pixels of `frames`.
            use_audio: False goes by the prompts alone.
            combination: of sound and prompts: "mean" of logits, "best_iou" frame by frame, "union".
            timeout_s: seconds from call to answer; None is the client's own.
        Raises: as `infer`.
        """

        def call(shape: ClipShape) -> Call:
            return clip_with_prompts(frames, audio, shape, prompts, use_audio, combination).call()

        answer = self._call(self.model, call, timeout_s)
        return segmentation(answer, frames.shape)

    def session(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        timeout_s: float | None = None,
    ) -> Session:
        """Open an interactive session on one clip: its first request encodes the clip, later ones bring prompts only.

        A context manager; arguments as for `segment`. Nothing is sent before the first request.
        """
        return Session(self._call_session, Rounds(frames, audio, use_audio, combination), timeout_s)

    def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """Ask whether the server and the model call themselves ready, as they do even when a stage has died."""
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

    def _call_session(self, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        return self._call(self.model + SESSION_SUFFIX, make, timeout_s)

    def _call(self, model: str, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        """Send what `make` makes for the served shape, again while it met ServerUnavailable and there are retries."""
        budget_s = budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        for pause_s in pauses(self.retries):
            try:
                shape = self.clip_shape(min(QUESTION_TIMEOUT_S, time_left(deadline, budget_s)))
                return self._send(model, make(shape), deadline, budget_s)
            except ServerUnavailable:
                if pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _send(self, model: str, call: Call, deadline: float, budget_s: float) -> Arrays:
        inputs, wanted = encode_request(blocking, call)
        try:
            left_s = time_left(deadline, budget_s)
            result = self._wire.infer(
                model, inputs, outputs=wanted, client_timeout=left_s, **_marks(self.caller, left_s), **call.sequence
            )
        except WIRE_ERRORS as error:
            raise self._translated(error, budget_s) from error
        return read_answer(result, call.outputs)

    def _translated(self, error: Exception, timeout_s: float) -> AuralServeError:
        translated = translate(error, url=self.url, timeout_s=timeout_s)
        if isinstance(translated, ServerUnavailable):
            self._shape = None  # the server that comes back may serve another build
        return translated


class AsyncClient:
    """The same for asyncio. Construct and use it inside a running loop; arguments and errors as for `Client`.

    The sizes that `Client` has as properties may have to be asked for, so they are methods here:
    `await client.num_frames()`.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        model: str = ENSEMBLE,
        timeout_s: float = 60.0,
        *,
        retries: int = 0,
        caller: str = "client",
    ) -> None:
        check_settings(timeout_s, retries)
        self.caller = caller
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

    async def num_frames(self) -> int:
        """Return how many frames a clip has, T. Errors as for `clip_shape`."""
        return (await self.clip_shape()).num_frames

    async def image_size(self) -> int:
        """Return the side of a frame on the wire in px, S. Errors as for `clip_shape`."""
        return (await self.clip_shape()).image_size

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
        outputs: Sequence[str] = USUAL_RESULTS,
        prompts: Mapping[str, NDArray[Any]] | None = None,
        timeout_s: float | None = None,
    ) -> Arrays:
        """Send one clip, as `Client.infer` does."""

        def call(shape: ClipShape) -> Call:
            check_clip(frames, audio, shape)
            if prompts:
                check_takes_prompts(shape)
            return Call(clip_tensors(frames, audio, prompts), outputs)

        return await self._call(self.model, call, timeout_s)

    async def segment(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        prompts: Prompts | None = None,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Segment one clip, as `Client.segment` does."""

        def call(shape: ClipShape) -> Call:
            return clip_with_prompts(frames, audio, shape, prompts, use_audio, combination).call()

        answer = await self._call(self.model, call, timeout_s)
        return segmentation(answer, frames.shape)

    def session(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        timeout_s: float | None = None,
    ) -> AsyncSession:
        """Open a session as `Client.session` does, for `async with`."""
        return AsyncSession(self._call_session, Rounds(frames, audio, use_audio, combination), timeout_s)

    async def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """Ask whether the server is ready, as `Client.is_ready` does."""
        try:
            server = await self._wire.is_server_ready(client_timeout=timeout_s)
            return bool(server and await self._wire.is_model_ready(self.model, client_timeout=timeout_s))
        except WIRE_ERRORS as error:
            translated = self._translated(error, timeout_s)
            if isinstance(translated, ServerUnavailable | ServerTimeout):
                return False
            raise translated from error

    async def _call_session(self, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        return await self._call(self.model + SESSION_SUFFIX, make, timeout_s)

    async def _call(self, model: str, make: Callable[[ClipShape], Call], timeout_s: float | None) -> Arrays:
        """Send what `make` makes for the served shape, again while it met ServerUnavailable and there are retries."""
        budget_s = budget(self.timeout_s, timeout_s)
        deadline = time.monotonic() + budget_s
        for pause_s in pauses(self.retries):
            try:
                shape = await self.clip_shape(min(QUESTION_TIMEOUT_S, time_left(deadline, budget_s)))
                # Resizing and checking a clip takes a while; the loop goes on meanwhile.
                call = await asyncio.to_thread(make, shape)
                return await self._send(model, call, deadline, budget_s)
            except ServerUnavailable:
                if pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _send(self, model: str, call: Call, deadline: float, budget_s: float) -> Arrays:
        inputs, wanted = encode_request(asynchronous, call)
        try:
            left_s = time_left(deadline, budget_s)
            result = await self._wire.infer(
                model, inputs, outputs=wanted, client_timeout=left_s, **_marks(self.caller, left_s), **call.sequence
            )
        except WIRE_ERRORS as error:
            raise self._translated(error, budget_s) from error
        return read_answer(result, call.outputs)

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


def _marks(caller: str, left_s: float) -> dict[str, object]:
    """What the server's stages know a clip by, and until when they need to work on it."""
    return {"request_id": request_id(caller, uuid.uuid4().hex), "timeout": max(1, int(1e6 * left_s))}

"""Send a clip, get its masks: the client for asyncio, over the same checks and the same errors."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc.aio as asynchronous
from numpy.typing import NDArray

from auralsam2_client.calls.address import is_nowhere, not_grpc, speaks_http
from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.endpoint import QUESTION_TIMEOUT_S, Endpoint, MakeCall, plan_infer, plan_segment
from auralsam2_client.calls.frame_wire import choose_wire
from auralsam2_client.calls.local_memory import LocalMemory, encode_placed, place, read_placed
from auralsam2_client.calls.segmentation import Segmentation, read_segmentation
from auralsam2_client.calls.session import AsyncSession, Rounds
from auralsam2_client.calls.wire import Arrays, Call, ClipShape, read_answer, read_clip_shape
from auralsam2_client.calls.wire_errors import WIRE_ERRORS
from auralsam2_client.contract import COMBINATIONS, SESSION_SUFFIX, USUAL_RESULTS
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow.deadline import choose_budget, pauses, time_left
from auralsam2_client.prompts import Prompts


class AsyncClient(Endpoint):
    """Client of one ensemble for asyncio. Construct and use it inside a running loop; otherwise as `Client`.

    The sizes that `Client` has as properties may have to be asked for, so they are methods here:
    `await client.num_frames()`.
    """

    _library = asynchronous

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        if self._local is not None:
            await asyncio.to_thread(self._local.close)
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
                absent = self._translate(error, timeout_s)
                if is_nowhere(absent) and await asyncio.to_thread(speaks_http, self.url):
                    absent = not_grpc(self.url)
                raise absent from error
            self._shape = read_clip_shape(self.model, metadata)
        return self._shape

    async def chosen_wire(self) -> str:
        """Tell how frames go to the served build, as `Client.chosen_wire` does."""
        return choose_wire(self.wire, await self.clip_shape())

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
        return await self._call(self.model, plan_infer(frames, audio, prompts, outputs), timeout_s)

    async def segment(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        prompts: Prompts | None = None,
        text: str | None = None,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        answer: str = LOGITS,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Segment one clip, as `Client.segment` does."""
        plan = plan_segment(frames, audio, prompts, use_audio, combination, self.wire, answer, text)
        return read_segmentation(await self._call(self.model, plan, timeout_s), frames.shape)

    def session(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        answer: str = LOGITS,
        timeout_s: float | None = None,
    ) -> AsyncSession:
        """Open a session as `Client.session` does, for `async with`."""
        rounds = Rounds(frames, audio, use_audio, combination, self.wire, answer)
        return AsyncSession(self._call_session, rounds, timeout_s)

    async def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """Ask whether the server is ready, as `Client.is_ready` does."""
        try:
            server = await self._wire.is_server_ready(client_timeout=timeout_s)
            return bool(server and await self._wire.is_model_ready(self.model, client_timeout=timeout_s))
        except WIRE_ERRORS as error:
            self._expect_absence(error, timeout_s)
            return False

    async def _call_session(self, make: MakeCall, timeout_s: float | None) -> Arrays:
        return await self._call(self.model + SESSION_SUFFIX, make, timeout_s)

    async def _call(self, model: str, make: MakeCall, timeout_s: float | None) -> Arrays:
        """Send what `make` makes for the served shape, again while it met ServerUnavailable and there are retries."""
        budget_s = choose_budget(self.timeout_s, timeout_s)
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
        if self._local is not None:
            return await self._send_local(self._local, model, call, deadline, budget_s)
        request = self._request(call, deadline, budget_s)
        try:
            result = await self._wire.infer(model, **request)
        except WIRE_ERRORS as error:
            raise self._translate(error, budget_s) from error
        return read_answer(result, call.outputs)

    async def _send_local(self, local: LocalMemory, model: str, call: Call, deadline: float, budget_s: float) -> Arrays:
        """Send a call by shared memory, as `Client` does; what takes a while goes to a thread."""
        placed = place(call, await self.clip_shape(), on_card=local.card is not None)
        try:
            for tries_left in (1, 0):
                left_s = time_left(deadline, budget_s)
                region = await asyncio.to_thread(local.take, placed.num_bytes, left_s, placed.card_bytes)
                try:
                    encoded = await asyncio.to_thread(encode_placed, call, placed, region)
                    request = self._request(call, deadline, budget_s, encoded)
                    answer = read_placed(await self._wire.infer(model, **request), call, placed, region)
                except BaseException as error:
                    if await asyncio.to_thread(local.give_up, region, error, deadline) and tries_left:
                        continue
                    raise
                local.give_back(region)
                return answer
        except WIRE_ERRORS as error:
            raise self._translate(error, budget_s) from error
        raise AssertionError("the last try returns or raises")

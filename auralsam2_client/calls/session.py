"""An interactive session at the client: one clip, encoded once, then rounds of prompts, blocking or in asyncio."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.answers import LOGITS, outputs_of, wish_tensors
from auralsam2_client.calls.frame_wire import AUTO, choose_wire, coded_clip_tensors
from auralsam2_client.calls.segmentation import Segmentation, prepare_clip, read_segmentation
from auralsam2_client.calls.wire import Arrays, Call, ClipShape, check_takes_prompts
from auralsam2_client.contract import END, OPENING, PROMPT_MODE, SESSION_ID, prompt_tensors
from auralsam2_client.errors import AuralServeError, SessionEnded
from auralsam2_client.prompts import Prompts, Tensors, frame_prompt, setting_tensors

# An end that does not arrive is made up for by the server's time-out.
END_TIMEOUT_S = 5.0


class Rounds:
    """What the next request of a session is. Sends nothing; both kinds of session use it.

    The number of a round goes with it, so that a round which is sent again, because its answer was lost, counts once.
    """

    def __init__(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        use_audio: bool,
        combination: str,
        wire: str = AUTO,
        answer: str = LOGITS,
    ) -> None:
        setting_tensors(use_audio, combination)
        self._answer, self._outputs = answer, (*outputs_of(answer), PROMPT_MODE)
        # By it an opening that is sent again, because its answer was lost, opens one session.
        self._opening = np.array([secrets.token_hex(16).encode()], np.object_)
        self._id: NDArray[np.object_] | None = None
        self._clip: tuple[NDArray[np.uint8], NDArray[np.float32] | None] | None = (frames, audio)
        self.input_shape = np.shape(frames)
        self._use_audio, self._combination, self._wire = use_audio, combination, wire
        self._step = 0
        self._closed = False

    @property
    def at_the_server(self) -> bool:
        """Tell whether the server keeps anything of it, as far as is known here."""
        return self._clip is None and not self._closed

    def make_next(
        self, shape: ClipShape, prompts: Prompts | None, combination: str | None, propagate: bool = True
    ) -> Call:
        """Make the request of the next round. Nothing changes here before `note_answer`.

        Raises: BadInput, SessionEnded, ConfigError.
        """
        if self._closed:
            raise SessionEnded("This session has ended. Open a new one with client.session(frames, audio).")
        check_takes_prompts(shape)
        chosen = self._combination if combination is None else combination
        settings = setting_tensors(self._use_audio, chosen)
        tensors: Tensors = {"STEP": np.array([self._step], np.int32)}
        if not propagate:
            tensors["PROPAGATE"] = np.array([0], np.int32)
        if self._clip is not None:
            clip = prepare_clip(*self._clip, shape, prompts, self._use_audio, chosen, self._answer)
            wire = choose_wire(self._wire, shape)
            tensors |= coded_clip_tensors(clip.frames, clip.audio, clip.prompts | settings, wire)
            return Call(tensors | {OPENING: self._opening}, (*self._outputs, SESSION_ID))
        N, height, width = self.input_shape[:3]
        tensors |= wish_tensors(self._outputs, shape, (height, width))
        if prompts is not None:
            tensors |= prompt_tensors(frame_prompt(prompts, N, height, width, shape.image_size))
        return Call(tensors | settings | self._named(), self._outputs)

    def note_answer(self, answer: Arrays) -> None:
        """Note the answer to the request of `make_next`: the server has the clip now, and a name for the session."""
        self._clip = None
        self._id = answer.get(SESSION_ID, self._id)
        self._step += 1

    def end(self) -> Call:
        """Close the session here, and make the request that closes it at the server."""
        self._closed = True
        return Call({END: np.array([True]), **self._named()}, (PROMPT_MODE,))

    def _named(self) -> Tensors:
        return {} if self._id is None else {SESSION_ID: self._id}


class Session:
    """Made by `Client.session`. A context manager; use it from one thread at a time.

    Marks stay: a click adds to those of earlier rounds on its frame, a box or a mask starts its frame again.
    """

    def __init__(
        self,
        call: Callable[[Callable[[ClipShape], Call], float | None], Arrays],
        rounds: Rounds,
        timeout_s: float | None,
    ) -> None:
        self._call, self._rounds, self._timeout_s = call, rounds, timeout_s

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def segment(
        self,
        prompts: Prompts | None = None,
        *,
        combination: str | None = None,
        propagate: bool = True,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Answer for all frames, by the sound and all marks so far, `prompts` among them.

        Args:
            prompts: points, a box or a mask on one frame; None adds nothing.
            combination: of this round; None is the session's own.
            propagate: False answers the marked frame only, which is quick, and leaves the others as they were; a later
                `propagate` tracks all marks to them.
        Raises: as `Client.infer`, and SessionEnded. A round that raised counts for nothing and may be repeated.
        """
        answer = self._call(
            lambda shape: self._rounds.make_next(shape, prompts, combination, propagate),
            self._timeout_s if timeout_s is None else timeout_s,
        )
        self._rounds.note_answer(answer)
        return read_segmentation(answer, self._rounds.input_shape)

    def click(
        self,
        x: float,
        y: float,
        label: str | int = "+",
        *,
        frame: int | None = None,
        propagate: bool = True,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Add one point, in pixels of the input: "+" on the object, "-" beside it. Otherwise as `segment`."""
        return self.segment(Prompts(points=[(x, y, label)], frame=frame), propagate=propagate, timeout_s=timeout_s)

    def propagate(self, *, timeout_s: float | None = None) -> Segmentation:
        """Track the marks that were set with `propagate=False` to all frames, as SAM2's `propagate_in_video`."""
        return self.segment(timeout_s=timeout_s)

    def close(self) -> None:
        """Give back what the server keeps. May be called twice; later rounds raise SessionEnded."""
        known = self._rounds.at_the_server
        call = self._rounds.end()
        if known:
            with contextlib.suppress(AuralServeError):
                self._call(lambda shape: call, END_TIMEOUT_S)


class AsyncSession:
    """Made by `AsyncClient.session`: a `Session` for asyncio."""

    def __init__(
        self,
        call: Callable[[Callable[[ClipShape], Call], float | None], Awaitable[Arrays]],
        rounds: Rounds,
        timeout_s: float | None,
    ) -> None:
        self._call, self._rounds, self._timeout_s = call, rounds, timeout_s

    async def __aenter__(self) -> "AsyncSession":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def segment(
        self,
        prompts: Prompts | None = None,
        *,
        combination: str | None = None,
        propagate: bool = True,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Answer for all frames, as `Session.segment` does."""
        answer = await self._call(
            lambda shape: self._rounds.make_next(shape, prompts, combination, propagate),
            self._timeout_s if timeout_s is None else timeout_s,
        )
        self._rounds.note_answer(answer)
        return read_segmentation(answer, self._rounds.input_shape)

    async def click(
        self,
        x: float,
        y: float,
        label: str | int = "+",
        *,
        frame: int | None = None,
        propagate: bool = True,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Add one point, as `Session.click` does."""
        return await self.segment(
            Prompts(points=[(x, y, label)], frame=frame), propagate=propagate, timeout_s=timeout_s
        )

    async def propagate(self, *, timeout_s: float | None = None) -> Segmentation:
        """Track the marks to all frames, as `Session.propagate` does."""
        return await self.segment(timeout_s=timeout_s)

    async def close(self) -> None:
        """Give back what the server keeps, as `Session.close` does."""
        known = self._rounds.at_the_server
        call = self._rounds.end()
        if known:
            with contextlib.suppress(AuralServeError):
                await asyncio.shield(asyncio.ensure_future(_wait_for(self._call(lambda shape: call, END_TIMEOUT_S))))


async def _wait_for(answer: Awaitable[Arrays]) -> Arrays:
    return await answer

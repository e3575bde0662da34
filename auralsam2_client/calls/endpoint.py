"""One served ensemble as both clients know it: its address, the shape of its clips, what a request to it is made of.

Nothing here sends or waits, so that the blocking client and the asyncio client do the same, each in its own way.
"""

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.address import parse_address
from auralsam2_client.calls.answers import wish_tensors
from auralsam2_client.calls.frame_wire import AUTO, RAW, check_wire, choose_wire
from auralsam2_client.calls.local_memory import LocalMemory
from auralsam2_client.calls.segmentation import prepare_clip
from auralsam2_client.calls.wire import (
    CHANNEL_OPTIONS,
    Call,
    ClipShape,
    check_clip,
    check_names_classes,
    check_takes_prompts,
    check_takes_text,
    clip_tensors,
    encode_request,
)
from auralsam2_client.calls.wire_errors import translate
from auralsam2_client.card_regions import card_of
from auralsam2_client.contract import ENSEMBLE, SECRET_PARAMETER, request_id
from auralsam2_client.errors import AuralServeError, ServerTimeout, ServerUnavailable
from auralsam2_client.flow.deadline import check_settings, time_left
from auralsam2_client.prompts import Prompts

# The server answers cheap questions (metadata, health) while it computes, so these need not wait long.
QUESTION_TIMEOUT_S = 10.0
MakeCall = Callable[[ClipShape], Call]
"""Makes the request once the shape that the model takes is known."""


class Endpoint:
    """What `Client` and `AsyncClient` share. Arguments as for `Client`. Raises: BadInput for a bad address."""

    _library: ClassVar[Any]
    """The blocking or the asyncio module of tritonclient."""

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        model: str = ENSEMBLE,
        timeout_s: float = 60.0,
        *,
        retries: int = 0,
        wire: str = AUTO,
        caller: str = "client",
        local_memory: bool | str = False,
        secret: str = "",
    ) -> None:
        check_settings(timeout_s, retries)
        check_wire(wire)
        # Shared memory costs less than coding does.
        self.caller, self.wire = caller, RAW if local_memory and wire == AUTO else wire
        self._parameters = {SECRET_PARAMETER: secret} if secret else None
        self.url, self.model, self.timeout_s, self.retries = parse_address(url), model, timeout_s, retries
        self._wire = self._open()
        self._local = LocalMemory(self.url, card_of(local_memory)) if local_memory else None
        self._shape: ClipShape | None = None

    def own_channel(self) -> Self:
        """Make a client like this one with a channel of its own and without retries, for one who paces them himself.

        Closing it ends the calls on it, and those of this client go on.
        """
        other = copy.copy(self)
        other.retries, other._wire = 0, self._open()
        other._local = None if self._local is None else LocalMemory(self.url, self._local.card)
        return other

    def _open(self) -> Any:
        return self._library.InferenceServerClient(self.url, channel_args=CHANNEL_OPTIONS)

    def _request(
        self, call: Call, deadline: float, budget_s: float, encoded: tuple[list[Any], list[Any]] | None = None
    ) -> dict[str, Any]:
        """Put a call as the arguments of the library's `infer`, all but the model.

        `encoded`: its inputs and wanted outputs, where they are made already.
        """
        inputs, wanted = encode_request(self._library, call) if encoded is None else encoded
        left_s = time_left(deadline, budget_s)
        # What the server's stages know a clip by, and until when they need to work on it.
        marks = {"request_id": request_id(self.caller, uuid.uuid4().hex), "timeout": max(1, int(1e6 * left_s))}
        return {"inputs": inputs, "outputs": wanted, "client_timeout": left_s, "parameters": self._parameters, **marks}

    def _translate(self, error: Exception, timeout_s: float) -> AuralServeError:
        """Make our own error of the library's, and forget the shape of a server that went away."""
        translated = translate(error, url=self.url, timeout_s=timeout_s)
        if isinstance(translated, ServerUnavailable):
            self._shape = None  # the server that comes back may serve another build
        return translated

    def _expect_absence(self, error: Exception, timeout_s: float) -> None:
        """Let pass what says only that the server is not there (yet), and raise any other error."""
        translated = self._translate(error, timeout_s)
        if not isinstance(translated, ServerUnavailable | ServerTimeout):
            raise translated from error


def plan_infer(
    frames: NDArray[np.uint8],
    audio: NDArray[np.float32],
    prompts: Mapping[str, NDArray[Any]] | None,
    outputs: Sequence[str],
) -> MakeCall:
    """Plan the request for a clip that is exactly as the model takes it.

    What is returned raises BadInput when it is not, and ConfigError when the model takes no prompts, or no text, or
    gives no masks in the form that is asked for.
    """

    def make(shape: ClipShape) -> Call:
        check_names_classes(outputs, shape)
        check_takes_text(prompts or (), shape)
        check_clip(frames, audio, shape)
        if prompts:
            check_takes_prompts(shape)
        return Call(clip_tensors(frames, audio, {**wish_tensors(outputs, shape), **(prompts or {})}), outputs)

    return make


def plan_segment(
    frames: NDArray[np.uint8],
    audio: NDArray[np.float32] | None,
    prompts: Prompts | None,
    use_audio: bool,
    combination: str,
    wire: str,
    answer: str,
    text: str | None = None,
) -> MakeCall:
    """Plan the request for a clip of any size and what says what is meant. It raises as `prepare_clip` does."""

    def make(shape: ClipShape) -> Call:
        chosen = choose_wire(wire, shape)
        return prepare_clip(frames, audio, shape, prompts, use_audio, combination, answer, text).to_call(chosen)

    return make

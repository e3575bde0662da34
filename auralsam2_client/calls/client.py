"""Send a clip, get its masks: the blocking client."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
from numpy.typing import NDArray

from auralsam2_client.calls.address import is_nowhere, not_grpc, speaks_http
from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.endpoint import QUESTION_TIMEOUT_S, Endpoint, MakeCall, plan_infer, plan_segment
from auralsam2_client.calls.frame_wire import choose_wire
from auralsam2_client.calls.local_memory import LocalMemory, encode_placed, place, read_placed
from auralsam2_client.calls.segmentation import Segmentation, read_segmentation
from auralsam2_client.calls.session import Rounds, Session
from auralsam2_client.calls.wire import Arrays, Call, ClipShape, read_answer, read_clip_shape
from auralsam2_client.calls.wire_errors import WIRE_ERRORS
from auralsam2_client.contract import COMBINATIONS, SESSION_SUFFIX, USUAL_RESULTS
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow.deadline import choose_budget, pauses, time_left
from auralsam2_client.prompts import Prompts


class Client(Endpoint):
    """Blocking client of one ensemble. A context manager; may be shared by threads.

    Args:
        url: host:port of the server's gRPC; http://host:port is the same.
        timeout_s: seconds from call to answer, queueing and retries included, unless a call says otherwise.
        retries: how often a call is repeated that met ServerUnavailable, after a random pause, within its deadline.
        wire: how `segment` and `session` send frames: "raw"; "jpeg" (quality 95, 4:4:4); "lossless", files as well; or
            "auto", JPEG for clips of over 2 MB where the build was measured to give the same masks by it, raw with
            `local_memory`.
        caller: begins the id of each request, which the server's log names; its stages follow a clip by it.
        local_memory: send clips by shared memory, to a server on this machine that was started with --local-memory;
            "cuda" or "cuda:1" sends raw frames by the memory of that card, which the server computes on too.
            `close` removes what it takes; that of a client that was killed goes with the next one, or the service.
        secret: of the service's own clients, which the stages then count apart; "" for everybody else.
    """

    _library = blocking

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. Calls under way in other threads end with ServerUnavailable."""
        if self._local is not None:
            self._local.close()
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
        """Ask the server once what it takes; the answer is kept until the server goes away.

        Raises: BadInput where something else than gRPC listens; else as `infer`.
        """
        if self._shape is None:
            try:
                metadata = self._wire.get_model_metadata(self.model, client_timeout=timeout_s)
            except WIRE_ERRORS as error:
                absent = self._translate(error, timeout_s)
                if is_nowhere(absent) and speaks_http(self.url):
                    absent = not_grpc(self.url)
                raise absent from error
            self._shape = read_clip_shape(self.model, metadata)
        return self._shape

    def chosen_wire(self) -> str:
        """Tell how frames go to the served build: "raw", "jpeg" or "lossless". Raises: as `clip_shape`; ConfigError."""
        return choose_wire(self.wire, self.clip_shape())

    def infer(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32],
        *,
        outputs: Sequence[str] = USUAL_RESULTS,
        prompts: Mapping[str, NDArray[Any]] | None = None,
        timeout_s: float | None = None,
    ) -> Arrays:
        """Send one clip exactly as the model takes it, raw, and return the outputs asked for, by name.

        Args:
            frames: [T, S, S, 3] uint8 RGB.
            audio: [T, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears.
            outputs: some of MASK_LOGITS [T, S/4, S/4], CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T],
                PROMPT_MODE [1]. In place of logits one of MASK_LOGITS_FP16, MASK_BITS [T, S/4, S/32], MASK_RLE [T], the
                last with OUTPUT_SIZE among `prompts`.
            prompts: tensors of SAM2's own prompts, as `auralsam2_client.prompts` makes them.
            timeout_s: seconds from call to answer; None is the client's own.
        Raises:
            BadInput: a value above is not met. Nothing was sent, unless the server found it.
            ServerTimeout, ServerUnavailable, ServerFault: no answer; the call is safe to repeat.
            ConfigError: the server does not know the model.
        """
        return self._call(self.model, plan_infer(frames, audio, prompts, outputs), timeout_s)

    def segment(
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
        """Segment one clip of frames of any size: what sounds, what is said or marked, or several of them.

        Args:
            frames: [N, H, W, 3] uint8 RGB, 1 <= N <= T. A shorter clip is filled up with its last frame for the model.
            audio: [T, 15600, 2] or [N, 15600, 2] float32 in [-1, 1], the 0.975 s that each frame hears. May be None
                with use_audio False.
            prompts: points, a box or a mask on one frame, in pixels of `frames`.
            text: a sentence of at most 25 words that says what is meant, for a build with text; "" says nothing.
            use_audio: False goes by the prompts and the text alone.
            combination: of sound and prompts: "mean" of logits, "best_iou" frame by frame, "union".
            answer: form of the masks on the wire: "logits" | "float16" | "bits", at the map's size, a bit a pixel |
                "rle", made by the server at the size of `frames`, the same masks as from logits.
            timeout_s: seconds from call to answer; None is the client's own.
        Raises: as `infer`.
        """
        plan = plan_segment(frames, audio, prompts, use_audio, combination, self.wire, answer, text)
        return read_segmentation(self._call(self.model, plan, timeout_s), frames.shape)

    def session(
        self,
        frames: NDArray[np.uint8],
        audio: NDArray[np.float32] | None,
        *,
        use_audio: bool = True,
        combination: str = COMBINATIONS[0],
        answer: str = LOGITS,
        timeout_s: float | None = None,
    ) -> Session:
        """Open an interactive session on one clip: its first request encodes the clip, later ones bring prompts only.

        A context manager; arguments as for `segment`. Nothing is sent before the first request.
        """
        rounds = Rounds(frames, audio, use_audio, combination, self.wire, answer)
        return Session(self._call_session, rounds, timeout_s)

    def is_ready(self, timeout_s: float = QUESTION_TIMEOUT_S) -> bool:
        """Ask whether the server and the model call themselves ready, as they do even when a stage has died."""
        try:
            return bool(
                self._wire.is_server_ready(client_timeout=timeout_s)
                and self._wire.is_model_ready(self.model, client_timeout=timeout_s)
            )
        except WIRE_ERRORS as error:
            self._expect_absence(error, timeout_s)
            return False

    def _call_session(self, make: MakeCall, timeout_s: float | None) -> Arrays:
        return self._call(self.model + SESSION_SUFFIX, make, timeout_s)

    def _call(self, model: str, make: MakeCall, timeout_s: float | None) -> Arrays:
        """Send what `make` makes for the served shape, again while it met ServerUnavailable and there are retries."""
        budget_s = choose_budget(self.timeout_s, timeout_s)
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
        if self._local is not None:
            return self._send_local(self._local, model, call, deadline, budget_s)
        request = self._request(call, deadline, budget_s)
        try:
            result = self._wire.infer(model, **request)
        except WIRE_ERRORS as error:
            raise self._translate(error, budget_s) from error
        return read_answer(result, call.outputs)

    def _send_local(self, local: LocalMemory, model: str, call: Call, deadline: float, budget_s: float) -> Arrays:
        """Send a call by shared memory, a second time to a server that was started again since it knew the region."""
        placed = place(call, self.clip_shape(), on_card=local.card is not None)
        try:
            for tries_left in (1, 0):
                region = local.take(placed.num_bytes, time_left(deadline, budget_s), placed.card_bytes)
                try:
                    request = self._request(call, deadline, budget_s, encode_placed(call, placed, region))
                    answer = read_placed(self._wire.infer(model, **request), call, placed, region)
                except BaseException as error:
                    if local.give_up(region, error, deadline) and tries_left:
                        continue
                    raise
                local.give_back(region)
                return answer
        except WIRE_ERRORS as error:
            raise self._translate(error, budget_s) from error
        raise AssertionError("the last try returns or raises")

"""A clip's way through one stage: let in or refused, timed, counted, let go. Knows no server, and no engine."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from auralsam2_client.contract import (
    CLIPS_METRIC,
    ENSEMBLE,
    FRAMES_METRIC,
    STAGE_NAMES,
    TICKET,
    WINDOW_S,
    Parameter,
    Reason,
    StageRecord,
)

from ..engine import Array, EngineError
from ..engine.refusals import NotAdmitted
from .asker import Asker
from .clip_table import MAX_ROWS, ClipTable
from .closing import refuse_while_closing
from .request_line import RequestLine, milliseconds
from .telemetry import Telemetry

LIMIT_VARIABLE = Parameter.MAX_CLIPS_IN_FLIGHT.variable


@dataclass(frozen=True)
class Role:
    """What a stage is in the chain, from the parameters of its config.pbtxt.

    `max_clips_in_flight` is set where clips enter, `ends_clip` where they leave. `clip_timeout_s` holds for callers
    that name no time of their own, or a longer one.
    """

    stage: str
    max_clips_in_flight: int | None = None
    ends_clip: bool = False
    clip_timeout_s: float = 600.0

    @classmethod
    def from_parameters(cls, stage: str, parameters: Mapping[str, str]) -> "Role":
        """Read a stage's parameters. Raises: EngineError when a number cannot be read or is out of range."""
        limit = None
        if Parameter.MAX_CLIPS_IN_FLIGHT in parameters:
            text = os.environ.get(LIMIT_VARIABLE) or parameters[Parameter.MAX_CLIPS_IN_FLIGHT]
            limit = int(text) if text.isdigit() else 0
            if not 1 <= limit <= MAX_ROWS:
                raise EngineError(
                    f"{stage}: max_clips_in_flight = {text!r}; must be 1 to {MAX_ROWS}. Correct {LIMIT_VARIABLE}, or"
                    " unset it for the build's own."
                )
        return cls(
            stage,
            limit,
            parameters.get(Parameter.ENDS_CLIP) == "true",
            float(parameters.get(Parameter.CLIP_TIMEOUT_S, cls.clip_timeout_s)),
        )


@dataclass(frozen=True)
class Clip:
    """A clip that a stage has in hand."""

    ticket: bytes
    asker: Asker
    began_s: float
    """By `time.monotonic`."""

    @property
    def golden(self) -> bool:
        """Whether the service asked itself."""
        return self.asker.golden


class Passage:
    """The clips of one stage: each enters, then leaves or fails. One thread at a time."""

    def __init__(self, role: Role, table: ClipTable, telemetry: Telemetry, num_frames: int) -> None:
        self._role, self._table, self._telemetry, self._num_frames = role, table, telemetry, num_frames
        self._line = RequestLine(role.stage)
        self._stage = STAGE_NAMES.index(role.stage) if role.stage in STAGE_NAMES else 0
        if role.max_clips_in_flight is not None:
            telemetry.set("auralsam2_clips_in_flight_limit", role.max_clips_in_flight)
            telemetry.set("auralsam2_clips_in_flight", 0)

    def enter(self, asker: Asker, ticket: bytes | None, timeout_us: int) -> Clip:
        """Let a clip in.

        Args:
            ticket: that the stage before handed on; None where clips enter.
            timeout_us: that the caller names; 0 for none.
        Raises: NotAdmitted where clips enter and this one may not, when nobody waits for it, or when it is not one.
        """
        try:
            if self._role.max_clips_in_flight is not None:
                return self._admit(asker, self._role.max_clips_in_flight, timeout_us)
            return self._take_over(asker, ticket)
        except NotAdmitted as refused:
            self._refuse(asker, ticket, refused.reason, None)
            raise

    def leave(
        self,
        clip: Clip,
        inputs: Mapping[str, Array],
        prompts: str,
        *,
        counts: bool = True,
        stages: Mapping[str, float] | None = None,
    ) -> None:
        """Note that the stage has an answer.

        Args:
            prompts: what the answer was made from.
            counts: whether a clip that ends here is one that was answered; features for a session are not.
            stages: seconds by stage, of a model that runs several.
        """
        role, telemetry = self._role, self._telemetry
        taken_s = time.monotonic() - clip.began_s
        telemetry.observe("auralsam2_stage_duration_seconds", taken_s, stage=role.stage)
        told: StageRecord = {"stages": milliseconds(stages)} if stages else {}
        if "AUDIO" in inputs and not clip.golden:
            num_silent = int(np.count_nonzero(~inputs["AUDIO"].any(axis=(1, 2))))
            telemetry.count("auralsam2_silent_windows_total", num_silent)
        if not role.ends_clip:
            self._table.hand_on(clip.ticket)
            self._line.tell(clip.ticket.hex(), clip.asker, taken_s, told)
            return
        duration_s = self._end(clip.ticket, answered=counts)
        told |= _ended(duration_s) | {"frames": self._num_frames, "mode": prompts}
        self._line.tell(clip.ticket.hex(), clip.asker, taken_s, told)
        if not counts:
            return
        if clip.golden:
            telemetry.count("auralsam2_golden_clips_total")
            return
        telemetry.count(CLIPS_METRIC, prompts=prompts)
        telemetry.count(FRAMES_METRIC, self._num_frames, prompts=prompts)
        telemetry.count("auralsam2_audio_seconds_total", self._num_frames * WINDOW_S, prompts=prompts)
        if duration_s is not None:
            telemetry.observe("auralsam2_clip_duration_seconds", duration_s, prompts=prompts)

    def fail(self, asker: Asker, ticket: bytes | None, reason: Reason) -> None:
        """Note that a clip goes no further; None: it never got in."""
        self._refuse(asker, ticket, reason, None if ticket is None else self._end(ticket, answered=False))

    def close(self) -> None:
        self._table.remove()

    def _admit(self, asker: Asker, limit: int, timeout_us: int) -> Clip:
        refuse_while_closing()
        role = self._role
        timeout_s = min(timeout_us / 1e6, role.clip_timeout_s) if timeout_us else role.clip_timeout_s
        # The service's own clip has a place of its own, so that it neither takes one nor goes without.
        ticket, num_clips = self._table.admit(
            asker.caller, limit=limit, timeout_s=timeout_s, spare=1 if asker.golden else 0
        )
        self._telemetry.set("auralsam2_clips_in_flight", num_clips)
        return Clip(ticket, asker, time.monotonic())

    def _take_over(self, asker: Asker, ticket: bytes | None) -> Clip:
        if ticket is None:
            raise NotAdmitted(
                Reason.BAD_REQUEST,
                f"{TICKET} did not come. This is a stage of the chain and takes clips from the stage before it alone;"
                f" ask {ENSEMBLE} for a clip.",
            )
        begun = self._table.begin(ticket, self._stage)
        if begun is None or begun.expired:
            self._end(ticket, answered=False)
            words = (
                "this clip is not in flight (any more)."
                if begun is None
                else "the queue was too long: the caller's time was over before this stage began."
            )
            raise NotAdmitted(Reason.EXPIRED, words)
        self._telemetry.observe("auralsam2_queue_duration_seconds", begun.waited_s, stage=self._role.stage)
        return Clip(ticket, asker, time.monotonic())

    def _refuse(self, asker: Asker, ticket: bytes | None, reason: Reason, duration_s: float | None) -> None:
        told = _ended(duration_s) | StageRecord(reason=reason.value)
        self._line.tell("" if ticket is None else ticket.hex(), asker, 0.0, told)
        self._telemetry.count("auralsam2_rejected_total", stage=self._role.stage, reason=reason.value)

    def _end(self, ticket: bytes, *, answered: bool) -> float | None:
        duration_s = self._table.end(ticket, answered=answered)
        self._telemetry.set("auralsam2_clips_in_flight", self._table.in_flight())
        return duration_s


def _ended(duration_s: float | None) -> StageRecord:
    """Say that no other stage has a clip after this one."""
    return {"ends": True} if duration_s is None else {"ends": True, "total_ms": round(1e3 * duration_s, 3)}

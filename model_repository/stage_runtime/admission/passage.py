"""A clip's way through one stage: let in or refused, timed, counted, let go. Knows no server, and no engine."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from auralsam2_client.contract import (
    CLIPS_METRIC,
    FRAMES_METRIC,
    GOLDEN_PREFIX,
    WINDOW_S,
    Parameter,
    Reason,
    StageRecord,
)

from ..engine import Array, EngineError
from ..engine.refusals import NotAdmitted
from .clip_table import MAX_ROWS, ClipTable
from .closing import refuse_while_closing
from .request_line import RequestLine, milliseconds
from .telemetry import Telemetry

LIMIT_VARIABLE = Parameter.MAX_CLIPS_IN_FLIGHT.variable


@dataclass(frozen=True)
class Role:
    """What a stage is in the chain, from the parameters of its config.pbtxt.

    `max_clips_in_flight` is set where clips enter, `ends_clip` where they leave. `clip_timeout_s` holds for callers
    that name no time of their own.
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


class Passage:
    """The clips of one stage: each enters, then leaves or fails. One thread at a time."""

    def __init__(self, role: Role, table: ClipTable, telemetry: Telemetry, num_frames: int) -> None:
        self._role, self._table, self._telemetry, self._num_frames = role, table, telemetry, num_frames
        self._line = RequestLine(role.stage)
        if role.max_clips_in_flight is not None:
            telemetry.set("auralsam2_clips_in_flight_limit", role.max_clips_in_flight)
            telemetry.set("auralsam2_clips_in_flight", 0)

    def enter(self, request_id: str, timeout_us: int) -> float:
        """Let a clip in, and tell when, by `time.monotonic`.

        Raises: NotAdmitted where clips enter and this one may not, or when nobody waits for it.
        """
        role = self._role
        if role.max_clips_in_flight is not None and not self._table.holds(request_id):
            timeout_s = timeout_us / 1e6 if timeout_us else role.clip_timeout_s
            try:
                refuse_while_closing()
                num_clips = self._table.admit(request_id, limit=role.max_clips_in_flight, timeout_s=timeout_s)
            except NotAdmitted as refused:
                self._telemetry.count("auralsam2_rejected_total", stage=role.stage, reason=refused.reason.value)
                self._tell(request_id, 0.0, {"ends": True, "reason": refused.reason.value})
                raise
            self._telemetry.set("auralsam2_clips_in_flight", num_clips)
        elif self._table.is_expired(request_id):
            self.fail(request_id, Reason.EXPIRED)
            raise NotAdmitted(
                Reason.EXPIRED, "the queue was too long: the caller's time was over before this stage began."
            )
        waited_s = self._table.waiting_s(request_id)
        if waited_s is not None:
            self._telemetry.observe("auralsam2_queue_duration_seconds", waited_s, stage=role.stage)
        return time.monotonic()

    def leave(
        self,
        request_id: str,
        began_s: float,
        inputs: Mapping[str, Array],
        prompts: str,
        *,
        goes_on: bool = False,
        stages: Mapping[str, float] | None = None,
    ) -> None:
        """Note that the stage has an answer.

        Args:
            began_s: of `enter`.
            prompts: what the answer was made from.
            goes_on: another model has the clip after this stage, whatever its role.
            stages: seconds by stage, of a model that runs several.
        """
        role, telemetry, golden = self._role, self._telemetry, request_id.startswith(GOLDEN_PREFIX)
        taken_s = time.monotonic() - began_s
        telemetry.observe("auralsam2_stage_duration_seconds", taken_s, stage=role.stage)
        told: StageRecord = {"stages": milliseconds(stages)} if stages else {}
        if "AUDIO" in inputs and not golden:
            num_silent = int(np.count_nonzero(~inputs["AUDIO"].any(axis=(1, 2))))
            telemetry.count("auralsam2_silent_windows_total", num_silent)
        if goes_on or not role.ends_clip:
            self._table.hand_on(request_id)
            self._tell(request_id, taken_s, told)
            return
        duration_s = self._end(request_id, answered=True)
        if duration_s is not None:
            told["total_ms"] = round(1e3 * duration_s, 3)
        self._tell(request_id, taken_s, {**told, "ends": True, "frames": self._num_frames, "mode": prompts})
        if golden:
            telemetry.count("auralsam2_golden_clips_total")
            return
        telemetry.count(CLIPS_METRIC, prompts=prompts)
        telemetry.count(FRAMES_METRIC, self._num_frames, prompts=prompts)
        telemetry.count("auralsam2_audio_seconds_total", self._num_frames * WINDOW_S, prompts=prompts)
        if duration_s is not None:
            telemetry.observe("auralsam2_clip_duration_seconds", duration_s, prompts=prompts)

    def fail(self, request_id: str, reason: Reason) -> None:
        """Note that the clip goes no further."""
        duration_s = self._end(request_id, answered=False)
        told: StageRecord = {"ends": True, "reason": reason.value}
        if duration_s is not None:
            told["total_ms"] = round(1e3 * duration_s, 3)
        self._tell(request_id, 0.0, told)
        self._telemetry.count("auralsam2_rejected_total", stage=self._role.stage, reason=reason.value)

    def close(self) -> None:
        self._table.remove()

    def _tell(self, request_id: str, taken_s: float, told: StageRecord) -> None:
        if self._role.max_clips_in_flight is not None:
            told["begins"] = True
        self._line.tell(request_id, taken_s, told)

    def _end(self, request_id: str, *, answered: bool) -> float | None:
        duration_s = self._table.end(request_id, answered=answered)
        self._telemetry.set("auralsam2_clips_in_flight", self._table.in_flight())
        return duration_s

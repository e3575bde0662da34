"""Requests that get no answer: each kind has a reason of the contract, which crosses the wire before the words."""

from auralsam2_client.contract import Reason


class Refusal(Exception):
    """A request that gets no answer. The message names what was found, the limit and the way out."""

    reason: Reason


class BadRequest(Refusal):
    """The caller's tensor is not acceptable."""

    reason = Reason.BAD_REQUEST


class SessionEnded(BadRequest):
    """The request is for a session that has ended, or never was."""

    reason = Reason.SESSION_ENDED


class NoRoom(Refusal):
    """The caps are reached by sessions in use. Safe to repeat after a pause."""

    reason = Reason.SESSION_LIMIT


class NotAdmitted(Refusal):
    """A clip that is not let in, or no further: QUEUE_FULL, DEADLINE or EXPIRED."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

"""Errors of the wire, made the service's own: by the reason of a stage, the status, or the words of others.

The stages' own errors carry a code, so what the server and the gRPC library say are the only words that anything hangs
on. They are those of Triton Inference Server 2.51 (the embedded release); a test looks for them in its library.
"""

import re
from collections.abc import Mapping

import grpc
from tritonclient.utils import InferenceServerException

from auralsam2_client.contract import BUSY, Reason, read_error
from auralsam2_client.errors import (
    AuralServeError,
    BadInput,
    ConfigError,
    ServerFault,
    ServerTimeout,
    ServerUnavailable,
    SessionEnded,
)

# Status, words, meaning.
SAID_BY_THE_SERVER = (
    # The bound on the queue of one model, for a build whose configuration sets one.
    ("UNAVAILABLE", "Exceeds maximum queue size", Reason.QUEUE_FULL),
    # A model that it has, but does not serve: it starts or stops. One that it does not have is "not found".
    ("NOT_FOUND", "has no available versions", Reason.UNREADY),
)
# A channel of ours that was closed, before a call or during it, fails with words and without a status.
CLOSED_CHANNEL = "closed"


def reason_of(status: str, words: str) -> Reason | None:
    """Give the reason that words of the server or the library stand for; None where the status says it all.

    Args:
        status: gRPC's name of it, "" without one.
    """
    if status == "":
        return Reason.UNREADY if CLOSED_CHANNEL in words.lower() else None
    return next((reason for known, part, reason in SAID_BY_THE_SERVER if known == status and part in words), None)


# A channel that was closed, or closed during the call, answers with ValueError.
WIRE_ERRORS = (InferenceServerException, grpc.RpcError, ValueError)


# What each reason is to a caller, and each status where no reason is known. Any other status is a fault.
_OF_REASON: Mapping[Reason, type[AuralServeError]] = {
    Reason.BAD_REQUEST: BadInput,
    Reason.SESSION_ENDED: SessionEnded,
    Reason.QUEUE_FULL: ServerUnavailable,
    Reason.DEADLINE: ServerUnavailable,
    Reason.EXPIRED: ServerUnavailable,
    Reason.SESSION_LIMIT: ServerUnavailable,
    Reason.UNREADY: ServerUnavailable,
    Reason.CANCELLED: ServerUnavailable,
    Reason.FAULT: ServerFault,
}
_OF_STATUS: Mapping[str, type[AuralServeError]] = {
    "INVALID_ARGUMENT": BadInput,
    "DEADLINE_EXCEEDED": ServerTimeout,
    "RESOURCE_EXHAUSTED": ServerUnavailable,
    "UNAVAILABLE": ServerUnavailable,
    "CANCELLED": ServerUnavailable,
    "NOT_FOUND": ConfigError,
    "UNIMPLEMENTED": ConfigError,
    "PERMISSION_DENIED": ConfigError,
    "UNAUTHENTICATED": ConfigError,
}
_NO_ROOM = {*BUSY, Reason.SESSION_LIMIT}


def translate(error: Exception, *, url: str, timeout_s: float) -> AuralServeError:
    """Make the service's own error of one of the gRPC libraries: the one place where that is done.

    Its type follows from the reason before the words, where a stage gave one; else from the status.
    """
    status, words = _read_status(error)
    reason, words = read_error(words)
    reason = reason or reason_of(status, words)
    text = scrub(words)
    if status == "" and reason is None and isinstance(error, ValueError):
        return BadInput(f"The request cannot be written: {text}. Check the arrays.")
    kind = _OF_STATUS.get(status, ServerFault) if reason is None else _OF_REASON[reason]
    return kind(_phrase(kind, status, reason, text, url, timeout_s), code=reason)


def _read_status(error: Exception) -> tuple[str, str]:
    """Read gRPC's name of the status, "" where the library itself refused, and the words."""
    if isinstance(error, InferenceServerException):
        # "StatusCode.INVALID_ARGUMENT"; the library's own checks carry no status.
        return str(error.status() or "").rpartition(".")[2], str(error.message() or "")
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return error.code().name, str(error.details())
    return "", str(error)


def _phrase(
    kind: type[AuralServeError], status: str, reason: Reason | None, text: str, url: str, timeout_s: float
) -> str:
    if kind is SessionEnded:
        return f"The server at {url} does not know this session (any more): {text}"
    if kind is BadInput and reason is None:
        # The server's own words, before a stage saw the clip.
        return (
            f"The server refused the clip before any stage saw it: {text}. Names, types and shapes of its tensors are"
            " in the model's metadata, and in docs/wire.md."
        )
    if kind is BadInput:
        return f"The server refused the clip: {text}"
    if kind is ServerTimeout:
        return f"No answer from {url} in {timeout_s:g} s. Repeat the call, or give it a longer timeout_s."
    if kind is ConfigError and status == "NOT_FOUND":
        return f"The server at {url} does not serve this: {text}. Check the model's name."
    if kind is ConfigError:
        return f"The server at {url} does not allow this call: {text}. Check the address."
    if kind is ServerUnavailable and (reason in _NO_ROOM or status == "RESOURCE_EXHAUSTED"):
        return f"The server at {url} has no room for this call: {text}. Repeat it after a pause."
    if kind is ServerUnavailable and status == "" and reason is Reason.UNREADY:
        return f"This client of {url} was closed: {text}. Make another one."
    if kind is ServerUnavailable:
        return f"No service at {url}: {text}. Start it (auralsam2 serve), or repeat after a pause."
    return f"The server at {url} failed ({status or 'no status'}): {text}. Its log has the cause."


_STACK = re.compile(r"\n\s*At:.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w/])(?:/[\w.+@-]+){2,}/?(?:\(\d+\))?")
_REGION = re.compile(r"\bauralsam2_\d+_[\w-]+")


def scrub(text: str) -> str:
    """Cut a text to one line without the server's file paths, stack traces and names of shared memory."""
    text = _REGION.sub("<region>", _PATH.sub("<path>", _STACK.sub("", text)))
    return " ".join(text.split()).rstrip(".")[:400]

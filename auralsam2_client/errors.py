"""The errors that the service raises, one small tree. Errors of client libraries are translated into it at the edge.

Every message names the value that was found, the limit, and the way out. A program reacts to the type, and to `code`
where one type has several reasons; never to the message.
"""

from auralsam2_client.contract import Reason


class AuralServeError(Exception):
    """Anything this service reports to a person as a message without a traceback."""

    code: Reason | None = None
    """The reason that the contract knows it by; None where it has none, as for a server that cannot be reached."""

    def __init__(self, message: str = "", *, code: Reason | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BadInput(AuralServeError):
    """The caller's clip, tensor or argument is not acceptable. Nothing was sent, or the server refused it."""

    code = Reason.BAD_REQUEST


class SessionEnded(BadInput):
    """A click for a session that has ended, by its client, its time-out or a restart, or never was. Open a new one."""

    code = Reason.SESSION_ENDED


class ConfigError(AuralServeError):
    """A setting, a file of the model repository or this machine does not fit; the server was not started."""


class ServerTimeout(AuralServeError):
    """No answer within the deadline. Inference is pure, so the call is safe to retry."""


class ServerUnavailable(AuralServeError):
    """The server cannot be reached, is stopping, or refuses for overload. Safe to retry after a pause."""


class ServerFault(AuralServeError):
    """The server answered with a fault of its own. One retry is safe; the server's log has the cause."""

    code = Reason.FAULT

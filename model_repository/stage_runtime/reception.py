"""Who asks: what the front door, or the service itself, says of a request. What a caller says of itself counts nothing.

The server hands the headers that it was told to forward to its models as parameters of the request, after the caller's
own parameters of the same name (tried on 2.51, the stages of an ensemble too). Without that flag there is no door, and
every caller is the same.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auralsam2_client.contract import GOLDEN_PREFIX, SECRET_PARAMETER, SECRET_VARIABLE

from .admission.asker import LOCAL, Asker
from .callers import CALLER_HEADER

FORWARD_FLAG = "--grpc-header-forward-pattern"
ROUND_PARAMETER = "auralsam2_round"


class Reception:
    """Tells the askers of one server apart.

    Args:
        behind_door: whether the server forwards the door's headers.
        secret: what the service's own requests bear; without one nobody is believed.
    """

    def __init__(self, *, behind_door: bool, secret: str) -> None:
        self._behind_door, self._secret = behind_door, secret

    @classmethod
    def of_this_server(cls) -> "Reception":
        """Read from the process that a stage belongs to what it was started with."""
        return cls(
            behind_door=is_behind_door(Path(f"/proc/{os.getppid()}/cmdline")),
            secret=os.environ.get(SECRET_VARIABLE, ""),
        )

    def read(self, request: Any) -> Asker:
        """Tell who asks, by the parameters of a request of the python backend."""
        said = _parameters(request.parameters())
        given = said.get(SECRET_PARAMETER)
        own = bool(self._secret) and isinstance(given, str) and secrets.compare_digest(given.encode(), self._own)
        caller = said.get(CALLER_HEADER) if own or self._behind_door else None
        name, part_of = str(request.request_id()), said.get(ROUND_PARAMETER) if own else None
        return Asker(
            caller if isinstance(caller, str) and caller else LOCAL,
            golden=own and name.startswith(GOLDEN_PREFIX),
            request=name,
            round=part_of if isinstance(part_of, str) else "",
        )

    def pass_on(self, asker: Asker, round: str) -> dict[str, str]:
        """Make the parameters by which another model of this server sees the same asker, within a `round` of its."""
        if not self._secret:
            return {}
        return {SECRET_PARAMETER: self._secret, CALLER_HEADER: asker.caller, ROUND_PARAMETER: round}

    @property
    def _own(self) -> bytes:
        return self._secret.encode()


def is_behind_door(command_line: Path) -> bool:
    """Tell whether a server forwards headers, by its command line as the kernel has it."""
    try:
        return any(part.startswith(FORWARD_FLAG.encode()) for part in command_line.read_bytes().split(b"\0"))
    except OSError:
        return False


def _parameters(text: str) -> Mapping[str, Any]:
    # Of a name that comes twice, the last counts: the forwarded header's.
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

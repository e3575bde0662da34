"""Whose request it is, as the stages count by it. Who tells it is `stage_runtime.reception`."""

from dataclasses import dataclass

LOCAL = "local"
"""The caller of a server without a door in front."""


@dataclass(frozen=True)
class Asker:
    """Whose request it is."""

    caller: str = LOCAL
    golden: bool = False
    """The service asks itself, to see that it is well."""
    request: str = ""
    """What the caller calls the request; for people to read."""
    round: str = ""
    """The key of a session's round that the request is a part of."""

"""The forms in which a clip may go to the server and its masks come back, as far as client and server offer them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from auralsam2_client.calls.client import Client
from service.server.config import ServerConfig


@dataclass(frozen=True)
class Way:
    """Settings by which a client sends clips one way, by the names of the client's and the server's own arguments."""

    name: str
    of_client: dict[str, Any] = field(default_factory=dict)
    of_call: dict[str, Any] = field(default_factory=dict)
    of_server: dict[str, Any] = field(default_factory=dict)

    def missing(self, client: Callable[..., Any], call: Callable[..., Any], server: set[str]) -> str | None:
        """Name the first argument that is not there; None where all are."""
        for owner, wanted, known in (
            ("Client", self.of_client, set(inspect.signature(client).parameters)),
            ("Client.segment", self.of_call, set(inspect.signature(call).parameters)),
            ("ServerConfig", self.of_server, server),
        ):
            for name in wanted:
                if name not in known:
                    return f"{owner} has no argument {name!r}"
        return None


RAW = Way("raw", {"wire": "raw"})
WAYS = (
    RAW,
    Way("jpeg", {"wire": "jpeg"}),
    Way("lossless", {"wire": "lossless"}),
    Way("shared memory", {"wire": "raw", "local_memory": True}, of_server={"local_memory": True}),
    Way("raw, mask bits back", {"wire": "raw"}, {"answer": "bits"}),
)


def offered_ways() -> tuple[list[Way], dict[str, str]]:
    """Return the ways that this client and this server have, and why each of the others is left out."""
    server = {item.name for item in fields(ServerConfig)}
    found, left_out = [], {}
    for way in WAYS:
        # A client that has one form only sends it without being told.
        sent = {name: value for name, value in way.of_client.items() if (name, value) != ("wire", "raw") or _has_wire()}
        way = Way(way.name, sent, way.of_call, way.of_server)
        reason = way.missing(Client, Client.segment, server)
        if reason is None:
            found.append(way)
        else:
            left_out[way.name] = reason
    return found, left_out


def _has_wire() -> bool:
    return "wire" in inspect.signature(Client).parameters

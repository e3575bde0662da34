"""What all users of a run send, and whereto: made once, before the first user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import choose_wire
from loadtests.generator.clips import load_clips
from loadtests.generator.modes import Mode, Prepared, find_mode
from loadtests.generator.sender import Sender

kept_open: list[Sender | Client] = []
"""Channels stay open to the end of the process: closed under gevent, now and then one waits for ever for itself,
whether it was told to close or collected as garbage."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Prepared clips of one mode, T frames each, and the address that takes them."""

    host: str
    mode: Mode
    prepared: list[Prepared]
    num_frames: int

    def open_sender(self, timeout_s: float) -> Sender:
        """Open a channel of its own for one caller."""
        sender = Sender(self.host, self.mode, self.prepared, timeout_s=timeout_s)
        kept_open.append(sender)
        return sender


def make_plan(host: str, chosen: Mapping[str, Any]) -> Plan:
    """Ask the server what it takes, and prepare the clips by our options. Raises: AuralServeError."""
    mode = find_mode(chosen["mode"])
    asking = Client(host, mode.model)
    kept_open.append(asking)
    shape = asking.clip_shape()
    wire = choose_wire(chosen["wire"], shape)
    prepared = [mode.prepare(clip, wire) for clip in load_clips(chosen["source"], shape)]
    return Plan(asking.url, mode, prepared, shape.num_frames)

"""Streams of a card, and marks on them. On a CPU all work is done at once, and a mark is the time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Mark:
    """A place in a lane's work: whatever was put there before it is done once `wait` returns."""

    def __init__(self, device: torch.device, *, timed: bool = False, in_graph: bool = False) -> None:
        """`timed`: two of them tell the time between; `in_graph`: noted within what is captured, at each replay."""
        self._noted_s = 0.0
        self._event: Any = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=timed, external=in_graph)

    def note(self) -> None:
        """Put the mark into the current lane."""
        if self._event is None:
            self._noted_s = time.perf_counter()
        else:
            self._event.record()

    def hold_back(self) -> None:
        """Let the current lane wait for the mark; this thread goes on."""
        if self._event is not None:
            torch.cuda.current_stream().wait_event(self._event)

    def wait(self) -> None:
        """Wait here until the mark is reached. Raises: what the work before it failed with."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_since(self, earlier: "Mark") -> float:
        """Count the seconds between two timed marks that were reached."""
        if self._event is None:
            return self._noted_s - earlier._noted_s
        return float(earlier._event.elapsed_time(self._event)) / 1e3


class Lane:
    """A stream of `device`: what is put there runs in order, beside what is put into other lanes."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Make this the current lane of the thread."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

"""Ctrl-C in a run: at once where a step may be dropped, after the block where it may not; nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C in a run whose state is saved. The same settings and folder go on from there."""

    def __init__(self, checkpoint: Path, done: str) -> None:
        super().__init__(f"{done}; {checkpoint}")
        self.checkpoint = checkpoint
        self.done = done
        """What the checkpoint holds, as "step 12 of 2400"."""


@contextmanager
def hold_signals(again: bool = True) -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is over, where Python handles them.

    Outside the main thread nothing is done: no handler runs there.

    Args:
        again: whether what came in the block is raised after it; False: where one has been heard, and this is the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    handlers = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    for heard in handlers:
        signal.signal(heard, note)
    try:
        yield
    finally:
        for heard, handler in handlers.items():
            signal.signal(heard, handler)
    if came and again:
        signal.raise_signal(came[0])


@contextmanager
def ignore_ctrl_c() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C, which a terminal sends to all of them.

    A process inherits what is ignored. Outside the main thread nothing is done.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""One start at a time on a cache of compiled models.

A start deletes every compiled model that has no hash yet, and gives one to what was compiled since. Both would be wrong
while another server compiles into the same folder: its models would be deleted under the engine, or be called right
before they are whole. The second start gains by waiting: it loads what the first has compiled.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from auralsam2_client.errors import ServerTimeout, ServerUnavailable

LOCK = ".start.lock"
POLL_S = 0.1


@contextlib.contextmanager
def alone_in_cache(
    cache: Path, aborted: Callable[[], bool], deadline: float, say: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Hold the lock of a cache, after every start that holds it has ended or died. A cache that cannot be written
    needs none, nor does a folder that another user has locked: nobody but that user writes there.

    Args:
        aborted: asked while it waits; once it is true, the wait ends with ServerUnavailable.
        deadline: on the clock of `time.monotonic`.
        say: told once that it waits, and for what.

    Raises: ServerUnavailable, ServerTimeout.
    """
    try:
        lock = os.open(cache / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        told = False
        while not _taken(lock):
            if aborted():
                raise ServerUnavailable("The start was broken off.")
            if not told:
                say(f"Waiting: another server that keeps its compiled models in {cache} is starting")
                told = True
            if time.monotonic() > deadline:
                raise ServerTimeout(
                    f"Another server that keeps its compiled models in {cache} is still starting. Start this one when"
                    " that one is ready, or name another folder with --cache-dir."
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

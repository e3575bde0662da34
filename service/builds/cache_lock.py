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
    """Hold the lock of a cache, after every start of this user that holds it has ended or died.

    There is none where the cache cannot be written, nor on a file system without locks, nor where the lock's file is
    another user's: nobody else may hold up a start. Two such starts are not kept apart.

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
    began, told = time.monotonic(), False
    try:
        while not _taken(lock):
            if aborted():
                raise ServerUnavailable("The start was broken off.")
            if not told:
                say(f"Waiting: another server that keeps its compiled models in {cache} is starting")
                told = True
            if (now := time.monotonic()) > deadline:
                raise ServerTimeout(
                    f"Another server that keeps its compiled models in {cache} is still starting, after a wait of"
                    f" {now - began:.0f} s; ready_timeout_s counts the wait too. Start this one when that one is"
                    " ready, or name another folder with --cache-dir."
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    """Try to take it; true as well where the file system has no locks, since no wait would end."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True

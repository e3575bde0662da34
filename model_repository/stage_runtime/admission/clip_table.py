"""Which clips are on their way through the chain: one small table in shared memory, kept by all stages of a server.

The server bounds the queue of one model at most, and a clip may wait before any of them. So the bound is on clips in
flight, from the first stage to the last: a clip beyond it is refused at once, before anything is computed for it.
"""

import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from auralsam2_client.contract import Reason

from ..engine.refusals import NotAdmitted

MAX_ROWS = 1024
# Of the newest clip's service time in its running mean: the last ten clips make nine tenths of it.
NEWEST_SHARE = 0.2
# A clip past its deadline that no stage has seen the end of; its caller is gone, and so, after this, is its place.
GRACE_S = 10.0
_ROW = np.dtype([("key", "<u8"), ("admitted", "<f8"), ("deadline", "<f8"), ("passed", "<f8")])
_HEAD = np.dtype([("service_s", "<f8"), ("last_end", "<f8")])


def table_path(mark: str, server_pid: int) -> Path:
    """Tell where the stages of one server meet; what begins with the mark is removed by the launcher that made it."""
    return Path("/dev/shm") / f"{mark or 'auralsam2_'}clips_{server_pid}"


class ClipTable:
    """Clips in flight, by request id. Every method is atomic over the processes that opened the same file.

    A caller without ids is served as well: its clips share one key and leave in the order in which they came.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        size = _HEAD.itemsize + MAX_ROWS * _ROW.itemsize
        # Whoever comes first makes it; a longer file of zeros is an empty table.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, size)
        memory = mmap.mmap(self._file, size)
        self._head = np.frombuffer(memory, _HEAD, 1)
        self._rows = np.frombuffer(memory, _ROW, MAX_ROWS, _HEAD.itemsize)

    def admit(self, request_id: str, *, limit: int, timeout_s: float) -> int:
        """Take a clip in and return how many are now in flight.

        Args:
            limit: the most that may be in flight, this one included; 1 to MAX_ROWS.
            timeout_s: from now until nobody waits for the answer any more.
        Raises: NotAdmitted when the limit is reached, or when the answer could not come in time.
        """
        now = time.monotonic()
        with self._locked():
            rows, head = self._rows, self._head[0]
            rows["key"][(rows["key"] != 0) & (rows["deadline"] + GRACE_S < now)] = 0
            num_ahead = int(np.count_nonzero(rows["key"]))
            if num_ahead >= limit:
                raise NotAdmitted(
                    Reason.QUEUE_FULL, f"the queue is full: {num_ahead} clips are in flight, at most {limit} may be."
                )
            wait_s = (num_ahead + 1) * float(head["service_s"])
            # An empty chain takes any clip, so that one slow hour is not held against it for ever.
            if num_ahead and wait_s > timeout_s:
                raise NotAdmitted(
                    Reason.DEADLINE,
                    f"the queue is too long: {num_ahead} clips are ahead and the answer would take {wait_s:.1f} s, the"
                    f" caller waits {timeout_s:.1f} s.",
                )
            free = int(np.argmin(rows["key"] != 0))
            rows[free] = (_key(request_id), now, now + timeout_s, now)
            return num_ahead + 1

    def holds(self, request_id: str) -> bool:
        """Tell whether a clip of this id is in flight."""
        with self._locked():
            return self._find(request_id) is not None

    def waiting_s(self, request_id: str) -> float | None:
        """Count seconds since the stage before was done with the clip, or since it was admitted; None when unknown."""
        with self._locked():
            row = self._find(request_id)
            return None if row is None else time.monotonic() - float(self._rows["passed"][row])

    def is_expired(self, request_id: str) -> bool:
        """Tell whether the caller has stopped waiting."""
        with self._locked():
            row = self._find(request_id)
            return row is not None and time.monotonic() > float(self._rows["deadline"][row])

    def hand_on(self, request_id: str) -> None:
        """Note that a stage is done with the clip, and the next may have it."""
        with self._locked():
            row = self._find(request_id)
            if row is not None:
                self._rows["passed"][row] = time.monotonic()

    def end(self, request_id: str, *, answered: bool) -> float | None:
        """Let a clip go; return the seconds since it was admitted, None when it is unknown.

        Args:
            answered: it went all the way, so the time since the clip before it is what one clip takes.
        """
        with self._locked():
            row = self._find(request_id)
            if row is None:
                return None
            now, head, admitted = time.monotonic(), self._head[0], float(self._rows["admitted"][row])
            self._rows["key"][row] = 0
            if answered:
                taken_s = now - max(float(head["last_end"]), admitted)
                before = float(head["service_s"])
                head["service_s"] = taken_s if before == 0 else before + NEWEST_SHARE * (taken_s - before)
                head["last_end"] = now
            return now - admitted

    def in_flight(self) -> int:
        with self._locked():
            return int(np.count_nonzero(self._rows["key"]))

    def remove(self) -> None:
        """Remove the file; who has it open goes on."""
        self._path.unlink(missing_ok=True)

    def _find(self, request_id: str) -> int | None:
        """The row of a clip; of several with one key the oldest."""
        found = np.flatnonzero(self._rows["key"] == _key(request_id))
        return int(found[np.argmin(self._rows["admitted"][found])]) if len(found) else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _key(request_id: str) -> int:
    """64 bits of an id, never 0, which marks a free row."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest()) | 1

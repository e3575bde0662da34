"""Which clips are on their way through the chain: one small table in shared memory, kept by all stages of a server.

The server bounds the queue of one model at most, and a clip may wait before any of them. So the bound is on clips in
flight, from the first stage to the last: a clip beyond it is refused at once, before anything is computed for it.

A clip is known by a ticket that the first stage draws and hands on: what callers call their requests counts nothing.
A place is held by work, and by a clip that waits for a stage. A clip that a stage could have begun, and did not, was
called off on its way, or somebody called the first stages by name; its place lapses, and is taken up again should the
clip come after all.
"""

import fcntl
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auralsam2_client.contract import TICKET_BYTES, Reason

from ..engine.refusals import NotAdmitted
from .shares import share_of

MAX_ROWS = 1024
# Of the newest clip's service time in its running mean: the last ten clips make nine tenths of it.
NEWEST_SHARE = 0.2
# A clip past its deadline that no stage has seen the end of; its caller is gone, and so, after this, is its row.
GRACE_S = 10.0
# From one stage to the next takes a millisecond or two; who is not begun after this by a stage that could, lapses.
LAPSE_S = 0.5
# Who was refused, and asks again within this, is waiting: the others keep to their shares.
WAITING_S = 10.0
MAX_WAITING = 64
NUM_STAGES = 4
_ROW = np.dtype(
    [
        ("ticket", "<u8", (TICKET_BYTES // 8,)),
        ("taken", "?"),
        ("lapsed", "?"),
        ("inside", "?"),
        ("stage", "i1"),
        ("caller", "<u8"),
        ("turn", "<u8"),
        ("admitted", "<f8"),
        ("deadline", "<f8"),
        ("passed", "<f8"),
    ]
)
_HEAD = np.dtype(
    [
        ("service_s", "<f8"),
        ("last_end", "<f8"),
        ("turns", "<u8"),
        # The newest turn that each stage has begun.
        ("begun", "<u8", (NUM_STAGES,)),
        ("waiting", [("caller", "<u8"), ("asked", "<f8")], (MAX_WAITING,)),
    ]
)


@dataclass(frozen=True)
class Begun:
    """What a stage learns of a clip that it begins."""

    waited_s: float
    """Since the stage before was done with it, or since it was admitted."""
    expired: bool
    """Its caller waits no more."""


def table_path(mark: str, server_pid: int) -> Path:
    """Tell where the stages of one server meet; what begins with the mark is removed by the launcher that made it."""
    return Path("/dev/shm") / f"{mark or 'auralsam2_'}clips_{server_pid}"


class ClipTable:
    """Clips in flight, by ticket. Every method is atomic over the processes that opened the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        size = _HEAD.itemsize + MAX_ROWS * _ROW.itemsize
        # Whoever comes first makes it; a longer file of zeros is an empty table.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, size)
        memory = mmap.mmap(self._file, size)
        self._head = np.frombuffer(memory, _HEAD, 1)
        self._rows = np.frombuffer(memory, _ROW, MAX_ROWS, _HEAD.itemsize)

    def admit(self, caller: str, *, limit: int, timeout_s: float, spare: int = 0) -> tuple[bytes, int]:
        """Take a clip into the first stage; return its ticket, and how many are now in flight.

        Args:
            caller: whose it is. While others wait, one caller has its share of the places at most.
            limit: the most that may be in flight, this one included; 1 to MAX_ROWS.
            timeout_s: from now until nobody waits for the answer any more.
            spare: places beyond the limit, for the service's own clips; they have no share.
        Raises: NotAdmitted when the limit or the share is reached, or when the answer could not come in time.
        """
        now, whose = time.monotonic(), _key(caller)
        with self._locked():
            rows, head = self._rows, self._head[0]
            rows["taken"][rows["taken"] & (rows["deadline"] + GRACE_S < now)] = False
            self._let_lapse(now)
            present = rows["taken"] & ~rows["lapsed"]
            num_ahead, num_own = int(present.sum()), int((present & (rows["caller"] == whose)).sum())
            num_waiting = self._count_waiting(whose, now)
            if num_ahead >= limit + spare:
                self._note_waiting(whose, now)
                raise NotAdmitted(
                    Reason.QUEUE_FULL,
                    # The service's own clip has a place of its own, which is nothing to a caller.
                    f"the queue is full: {min(num_ahead, limit)} clips are in flight, at most {limit} may be.",
                )
            if num_waiting and not spare and num_own >= share_of(limit, 1 + num_waiting):
                raise NotAdmitted(
                    Reason.QUEUE_FULL,
                    f"{num_own} clips of yours are in flight, and other callers wait: your share is"
                    f" {share_of(limit, 1 + num_waiting)} of {limit}. Repeat after a pause, with fewer at once.",
                )
            wait_s = (num_ahead + 1) * float(head["service_s"])
            # An empty chain takes any clip, so that one slow hour is not held against it for ever.
            if num_ahead and wait_s > timeout_s:
                self._note_waiting(whose, now)
                raise NotAdmitted(
                    Reason.DEADLINE,
                    f"the queue is too long: {num_ahead} clips are ahead and the answer would take {wait_s:.1f} s, the"
                    f" caller waits {timeout_s:.1f} s.",
                )
            ticket = secrets.token_bytes(TICKET_BYTES)
            rows[self._free_row()] = (
                np.frombuffer(ticket, "<u8"),
                True,
                False,
                True,
                0,
                whose,
                0,
                now,
                now + timeout_s,
                now,
            )
            return ticket, num_ahead + 1

    def begin(self, ticket: bytes, stage: int) -> Begun | None:
        """Note that a stage has the clip in hand, by its place in the chain; None where no such clip is in flight."""
        now = time.monotonic()
        with self._locked():
            row = self._find(ticket)
            if row is None:
                return None
            rows, begun = self._rows, self._head["begun"][0]
            waited_s, expired = now - float(rows["passed"][row]), now > float(rows["deadline"][row])
            begun[stage] = max(begun[stage], rows["turn"][row])
            rows["stage"][row], rows["inside"][row], rows["lapsed"][row] = stage, True, False
            return Begun(waited_s, expired)

    def hand_on(self, ticket: bytes) -> None:
        """Note that a stage is done with the clip, and the next may have it."""
        with self._locked():
            row = self._find(ticket)
            if row is not None:
                self._head["turns"][0] += 1
                self._rows["turn"][row] = self._head["turns"][0]
                self._rows["passed"][row] = time.monotonic()
                self._rows["inside"][row] = False

    def end(self, ticket: bytes, *, answered: bool) -> float | None:
        """Let a clip go; return the seconds since it was admitted, None when it is unknown.

        Args:
            answered: it went all the way, so the time since the clip before it is what one clip takes.
        """
        with self._locked():
            row = self._find(ticket)
            if row is None:
                return None
            now, head, admitted = time.monotonic(), self._head[0], float(self._rows["admitted"][row])
            self._rows["taken"][row] = False
            if answered:
                taken_s = now - max(float(head["last_end"]), admitted)
                before = float(head["service_s"])
                head["service_s"] = taken_s if before == 0 else before + NEWEST_SHARE * (taken_s - before)
                head["last_end"] = now
            return now - admitted

    def in_flight(self) -> int:
        with self._locked():
            return int((self._rows["taken"] & ~self._rows["lapsed"]).sum())

    def remove(self) -> None:
        """Remove the file; who has it open goes on."""
        self._path.unlink(missing_ok=True)

    def _let_lapse(self, now: float) -> None:
        """Take the places of clips that wait though their next stage is idle, or has begun one that came later."""
        rows = self._rows
        waiting = rows["taken"] & ~rows["inside"] & ~rows["lapsed"] & (rows["passed"] + LAPSE_S < now)
        for row in np.flatnonzero(waiting):
            stage = int(rows["stage"][row]) + 1
            busy = bool((rows["taken"] & rows["inside"] & (rows["stage"] == stage)).any())
            passed_over = stage < NUM_STAGES and self._head["begun"][0][stage] > rows["turn"][row]
            rows["lapsed"][row] = passed_over or not busy

    def _free_row(self) -> int:
        rows = self._rows
        # The table is longer than any limit, so where no row is free one has lapsed; the oldest of these goes.
        rank = np.where(~rows["taken"], -1.0, np.where(rows["lapsed"], rows["passed"], np.inf))
        return int(np.argmin(rank))

    def _count_waiting(self, whose: int, now: float) -> int:
        """Count the callers who wait beside this one; one who waited before, and asks again, goes on waiting."""
        waiting = self._head["waiting"][0]
        recent = (waiting["caller"] != 0) & (waiting["asked"] + WAITING_S >= now)
        waiting["asked"][recent & (waiting["caller"] == whose)] = now
        return int((recent & (waiting["caller"] != whose)).sum())

    def _note_waiting(self, whose: int, now: float) -> None:
        waiting = self._head["waiting"][0]
        known = np.flatnonzero(waiting["caller"] == whose)
        waiting[known[0] if len(known) else int(np.argmin(waiting["asked"]))] = (whose, now)

    def _find(self, ticket: bytes) -> int | None:
        if len(ticket) != TICKET_BYTES:
            return None
        rows = self._rows
        found = np.flatnonzero(rows["taken"] & (rows["ticket"] == np.frombuffer(ticket, "<u8")).all(axis=1))
        return int(found[0]) if len(found) else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _key(caller: str) -> int:
    """64 bits of a caller, never 0, which marks nobody."""
    return int.from_bytes(hashlib.blake2b(caller.encode(), digest_size=8).digest(), "little") | 1

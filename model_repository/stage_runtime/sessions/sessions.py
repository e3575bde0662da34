"""All sessions of a server: opened, found again, ended, timed out, and kept within their caps.

Caps: when a new session finds no room, the one that was idle the longest makes room, provided that nobody used it for
`give_way_s`. If all are in use, the new one is refused: whoever is in the midst of correcting a mask loses nothing to a
newcomer, and a session that nobody ended is in nobody's way for long. But for a caller with more than its share: while
another, who has less than its own, finds no room, the one of its sessions that was idle the longest makes some.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auralsam2_client.contract import Parameter

from ..admission.shares import share_of
from ..engine import Array
from ..engine.refusals import BadRequest, NoRoom, SessionEnded
from ..prompts.reading import NOTHING_TO_GO_BY, ClipSize, read_round
from .rounds import Session, SessionDecoder

# Why a session ended is remembered for this many, so that a late click is told.
REMEMBERED_ENDS = 4096
NEW_SESSION = "Open a new session with FRAMES and AUDIO, and repeat the prompts."

Encoded = tuple[Mapping[str, Array], Mapping[str, Array] | None]
Encode = Callable[[bool], Encoded]
"""Whether to use the sound -> the clip's features, and the answer by sound (None without)."""


@dataclass(frozen=True)
class Limits:
    max_sessions: int
    max_bytes: int
    idle_timeout_s: float
    give_way_s: float


@dataclass
class _Kept:
    session: Session
    caller: str
    used_at: float


class Sessions:
    """Sessions by their key, of `naming.key_of`. May be used by several threads; one round runs at a time."""

    def __init__(
        self, decoder: SessionDecoder, clip: ClipSize, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._decoder = decoder
        self._clip = clip
        self._limits = limits
        self._clock = clock
        # Least recently used first.
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._ended: OrderedDict[bytes, str] = OrderedDict()
        # All sessions of a build are of one size, which the first one shows.
        self._bytes_of_one = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_bytes(self) -> int:
        with self._lock:
            return sum(kept.session.num_bytes for kept in self._kept.values())

    def open(self, key: bytes, caller: str, encode: Encode, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Start a session with its first round. One that runs under the same key is replaced.

        Args:
            caller: whose it is, for the shares.
            encode: called only once the prompts are found good and there is room.
            tensors: the optional tensors of the request.
        Raises: BadRequest; NoRoom; what `encode` raises. No session is left behind then.
        """
        with self._lock:
            asked = read_round(tensors, self._clip)
            if asked.prompt is None and not asked.use_audio:
                raise BadRequest(NOTHING_TO_GO_BY)
            self._kept.pop(key, None)
            self._ended.pop(key, None)
            self._make_room(self._bytes_of_one, caller)
            features, heard = encode(asked.use_audio)
            session = Session(features, heard, self._decoder, self._clip)
            answer = session.round(asked)
            self._bytes_of_one = session.num_bytes
            self._make_room(self._bytes_of_one, caller)
            self._kept[key] = _Kept(session, caller, self._clock())
            return answer

    def round(self, key: bytes, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Answer a later round. Raises: BadRequest; SessionEnded when there is no such session (any more)."""
        with self._lock:
            self.sweep()
            kept = self._kept.get(key)
            if kept is None:
                raise self.make_refusal(key)
            try:
                return kept.session.round(read_round(tensors, self._clip))
            finally:
                # After the work: a long round is no idling.
                kept.used_at = self._clock()
                self._kept.move_to_end(key)

    def holds(self, key: bytes) -> bool:
        """Tell whether a session is kept."""
        with self._lock:
            self.sweep()
            return key in self._kept

    def end(self, key: bytes, why: str = "its client ended it") -> None:
        """Give back what a session holds. One that is not there is no error."""
        with self._lock:
            if self._kept.pop(key, None) is not None:
                self._ended[key] = why
                while len(self._ended) > REMEMBERED_ENDS:
                    self._ended.popitem(last=False)

    def make_refusal(self, key: bytes) -> SessionEnded:
        """Make the refusal of a round for a session that is not kept: the same words for wrong ids and others' ids."""
        why = self._ended.get(key, "it never was, or ended long ago")
        return SessionEnded(f"This session has ended: {why}. {NEW_SESSION}")

    def sweep(self) -> int:
        """End the sessions that were idle for too long; returns how many."""
        with self._lock:
            limit = self._limits.idle_timeout_s
            idle = [key for key, kept in self._kept.items() if self._clock() - kept.used_at >= limit]
            for key in idle:
                self.end(key, f"nobody used it for {limit:g} s")
            return len(idle)

    def _make_room(self, needed: int, caller: str) -> None:
        self.sweep()
        limits = self._limits
        if needed > limits.max_bytes:
            raise BadRequest(
                f"A session of this model holds {needed >> 20} MiB, and all sessions together may hold"
                f" {limits.max_bytes >> 20} MiB. Raise {Parameter.MAX_SESSION_BYTES.variable} where the server is"
                " started."
            )
        while len(self._kept) >= limits.max_sessions or self.num_bytes + needed > limits.max_bytes:
            key, oldest = next(iter(self._kept.items()))
            if self._clock() - oldest.used_at >= limits.give_way_s:
                self.end(key, f"it made room for another after {limits.give_way_s:g} s without a round")
                continue
            greedy = self._beyond_a_share(caller)
            if greedy is None:
                raise NoRoom(
                    f"{len(self._kept)} sessions hold {self.num_bytes >> 20} MiB, and all were used in the last"
                    f" {limits.give_way_s:g} s; at most {limits.max_sessions} sessions and {limits.max_bytes >> 20} MiB"
                    " are kept. End one, or repeat the call after a pause."
                )
            self.end(greedy, "it made room for another caller; yours were more than your share")

    def _beyond_a_share(self, caller: str) -> bytes | None:
        """Find the least recently used session of the caller with the most, where that is more than a share.

        None for a caller who has its own share already. What is kept now is all that there is room for.
        """
        held = Counter(kept.caller for kept in self._kept.values())
        share = share_of(len(self._kept), len({*held, caller}))
        greedy, most = held.most_common(1)[0]
        if held[caller] >= share or most <= share:
            return None
        return next(key for key, kept in self._kept.items() if kept.caller == greedy)

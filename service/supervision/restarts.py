"""How often a server may be started again, and after what pause: often at first, then slowly, but never not at all."""

from collections import deque
from dataclasses import dataclass

# Once restarts are too many, a pause grows up to this.
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Restart:
    """One restart: why, by kind and in words, and how long there was no service."""

    kind: str  # process | canary | answer | start
    reason: str
    duration_s: float


class Restarts:
    """Counts the faults of a window, and says how long to wait before the restart that follows each.

    The first restart comes at once, those up to `limit` after pauses that double from `backoff_s` up to
    `backoff_max_s`. From then on the service is degraded: pauses double on, up to a minute, for as long as faults
    come, since whoever can cause one could otherwise end the service by repeating it.
    Times are on the caller's clock, in seconds.
    """

    def __init__(self, limit: int, window_s: float, backoff_s: float, backoff_max_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self._backoff_s, self._backoff_max_s = backoff_s, backoff_max_s
        self._faults: deque[float] = deque()

    def note(self, now: float) -> int:
        """Count a fault; return how many came within the window, this one included."""
        self._faults.append(now)
        return self.recent(now)

    def recent(self, now: float) -> int:
        """Count the faults within the window that ends now."""
        while self._faults and self._faults[0] < now - self.window_s:
            self._faults.popleft()
        return len(self._faults)

    def are_too_many(self, now: float) -> bool:
        """Tell whether more faults came within the window than restarts are allowed."""
        return self.recent(now) > self.limit

    def pause_s(self, now: float) -> float:
        """Return the seconds to wait before the restart that follows the last fault."""
        recent = self.recent(now)
        if recent > self.limit:
            longest_yet = max(self._backoff_s, self._backoff_max_s)
            return min(longest_yet * _power_of_two(recent - self.limit), LONGEST_PAUSE_S)
        return min(self._backoff_s * _power_of_two(recent - 2), self._backoff_max_s) if recent > 1 else 0.0


def _power_of_two(exponent: int) -> float:
    # Beyond that any pause has long come to its bound, and then the number to its own.
    return 2.0 ** min(exponent, 16)

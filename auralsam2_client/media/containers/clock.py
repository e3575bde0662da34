"""One clock for files whose own clock starts again or leaps, as in transport streams that were joined byte by byte.

The packets of a file are placed one after the other. A stream's clock may not run back, and no stream may leap far
ahead of all others: there a piece ends and another begins, which follows it at once. Streams cross such a joint one by
one, since their packets are interleaved: each keeps to the piece that its own clock fits.
"""

# A decoder's timestamps run back by a few ticks where a muxer was careless, not by more.
_BACK_S = 0.1
# FFmpeg's own limit: a silence or a held picture of that length is a pause, not a joint.
_AHEAD_S = 10.0
# Alone, a stream of rare pictures is not told from one that leaps.
_AHEAD_ALONE_S = 60.0
# Pieces whose packets may still come.
_MAX_PIECES = 4


class Clock:
    """Gives each packet of a file the seconds by which it is moved; one file from its beginning, one use.

    Args:
        may_leap: False for containers whose clock is one; every offset is then 0.
    """

    def __init__(self, may_leap: bool) -> None:
        self._may_leap = may_leap
        # The latest pieces: by how much each is moved; the last is the newest.
        self._offsets_s = [0.0]
        self._last_s: dict[int, float] = {}
        self._offset_of: dict[int, float] = {}
        self._front_s: float | None = None
        self.joints_s: list[float] = []

    def offset_s(self, stream: int, time_s: float, duration_s: float, timed: bool = True) -> float:
        """Return the seconds to add to the times of a stream's next packet.

        Args:
            stream: which one.
            time_s: when the packet is decoded, by the file's clock.
            duration_s: of the packet; 0 where it is not known.
            timed: a stream of pictures or sound. Others follow them and never open a piece.
        """
        if not self._may_leap:
            return 0.0
        if not timed:
            return self._offsets_s[-1]
        offset_s = self._offset_for(stream, time_s)
        self._offset_of[stream] = offset_s
        self._last_s[stream] = time_s + offset_s
        end_s = time_s + offset_s + duration_s
        self._front_s = end_s if self._front_s is None else max(self._front_s, end_s)
        return offset_s

    def _offset_for(self, stream: int, time_s: float) -> float:
        own = self._offset_of.get(stream, self._offsets_s[-1])
        for offset_s in (own, *reversed(self._offsets_s)):
            if self._fits(stream, time_s + offset_s):
                return offset_s
        assert self._front_s is not None
        self.joints_s.append(self._front_s)
        self._offsets_s = [*self._offsets_s[1 - _MAX_PIECES :], self._front_s - time_s]
        return self._offsets_s[-1]

    def _fits(self, stream: int, time_s: float) -> bool:
        if self._front_s is None:
            return True
        last_s = self._last_s.get(stream)
        ahead_s = _AHEAD_S if len(self._last_s) > 1 else _AHEAD_ALONE_S
        return (last_s is None or time_s >= last_s - _BACK_S) and time_s <= self._front_s + ahead_s

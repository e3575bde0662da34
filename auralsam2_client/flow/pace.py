"""How many clips a client has in flight: as many as the server takes without a refusal, within the client's bound.

A server says how many places it has only by refusing, and other callers take some of them. So a refusal halves the
number and asks for a pause, which doubles from one refusal to the next; answers without a refusal in between bring the
places back, one at a time. Nothing here waits or counts: threads and asyncio do that, each in its own way.
"""

import random

from auralsam2_client.errors import BadInput

USUAL_IN_FLIGHT = 3
"""Two keep a server busy while a third is read, resized or written."""
MAX_IN_FLIGHT = 16
ANSWERS_FOR_MORE = 8
PAUSE_BASE_S, PAUSE_CAP_S = 0.1, 4.0


class Pace:
    """The bound on clips in flight, as answers and refusals move it.

    Args:
        most: clips in flight when nothing is refused, 1 to 16; None is the usual number.
    Raises: BadInput for a number out of range.
    """

    def __init__(self, most: int | None = None) -> None:
        most = USUAL_IN_FLIGHT if most is None else most
        if not 1 <= most <= MAX_IN_FLIGHT:
            raise BadInput(
                f"in_flight = {most}; must be 1 to {MAX_IN_FLIGHT} clips. 2 or 3 keep a server busy; more wait there."
            )
        self.most = most
        self.limit = most
        self.has_answered = False
        """Whether any clip was answered: a server that is away then is most likely one that restarts."""
        self._answers = self._refusals = 0

    def note_answer(self) -> None:
        """Note that a clip was answered: after some of them one more may be in flight."""
        self._refusals = 0
        self.has_answered = True
        self._answers += 1
        if self.limit < self.most and self._answers >= ANSWERS_FOR_MORE:
            self.limit += 1
            self._answers = 0

    def note_refusal(self) -> float:
        """Note that the server had no place: half as many from now on. Return seconds to wait before the next try."""
        self.limit = max(1, self.limit // 2)
        self._answers = 0
        bound_s = min(PAUSE_CAP_S, PAUSE_BASE_S * 2 ** min(self._refusals, 16))
        self._refusals += 1
        # Spread, so that callers which were refused together do not come back together; never at once.
        return random.uniform(bound_s / 2, bound_s)

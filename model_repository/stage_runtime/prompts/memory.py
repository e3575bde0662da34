"""What a frame reads of those that were decoded before it, and what of a clip is kept from call to call."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from .answers import Answer

MEMORY_FRAMES, MAX_POINTERS = 6, 16


class Kept:
    """What a later call on the same features need not compute again. Empty at first; filled as it is missed."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """What it holds once it is full."""
        self.tokens = dict[int, Any]()
        """[N, C] by frame, before any memory is read."""
        self._memories = dict[int, tuple[Answer, Any]]()

    def memory(self, frame: int, answer: Answer, remember: Callable[[], Any]) -> Any:
        """Give [N, C_mem], what `frame` leaves behind: by `remember` where its answer is not the last call's."""
        known = self._memories.get(frame)
        if known is None or known[0].prompted != answer.prompted or not np.array_equal(known[0].mask, answer.mask):
            known = self._memories[frame] = answer, remember()
        return known[1]


def reach(
    decoded: Container[int], frame: int, conditioning: Sequence[int], reverse: bool
) -> tuple[list[tuple[int, int]], list[int]]:
    """List what `frame` reads: the prompted frames and up to six before it, each with its row of the temporal encoding;
    then the frames whose pointers are read, which lie in the past only. Backwards, "before" is later in time.
    """
    step = 1 if reverse else -1

    def is_remembered(distance: int) -> bool:
        return frame + step * distance in decoded and frame + step * distance not in conditioning

    frames = [(index, MEMORY_FRAMES) for index in conditioning]
    frames += [(frame + step * d, d - 1) for d in range(MEMORY_FRAMES, 0, -1) if is_remembered(d)]
    pointers = [index for index in conditioning if step * (index - frame) >= 0]
    pointers += [frame + step * d for d in range(1, MAX_POINTERS) if is_remembered(d)]
    return frames, pointers

"""What the prompted decoder makes of one frame: SAM2's choice among the decoder's four masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine import Array

# SAM2 answers up to one point with three candidates, more with one mask, if that one is stable.
MAX_POINTS_OF_THREE_MASKS = 1
STABILITY_DELTA, STABILITY_THRESHOLD = 0.05, 0.98
NO_OBJECT_LOGIT = np.float32(-1024)


@dataclass(frozen=True, eq=False)
class Answer:
    """Of one frame."""

    candidates: Array  # [3, S/4, S/4]
    iou: Array  # [3]
    mask: Array  # [S/4, S/4]
    score: float
    pointer: Array  # [C]
    prompted: bool


def choose(found: Mapping[str, Array], num_points: int, prompted: bool) -> Answer:
    """Choose among the decoder's four masks as SAM2 does."""
    logits, iou, pointers = found["FOUR_LOGITS"], found["FOUR_IOU"], found["FOUR_POINTERS"]
    best = 1 + int(np.argmax(iou[1:]))
    chosen, candidates, pointer = best, slice(1, 4), pointers[best]
    if num_points > MAX_POINTS_OF_THREE_MASKS:
        # The pointer is that of mask 0 even where another stands in for it.
        chosen, pointer = (0 if _stability(logits[0]) >= STABILITY_THRESHOLD else best), pointers[0]
    score = float(found["OBJECT_SCORE"])
    if score <= 0:
        logits = np.full_like(logits, NO_OBJECT_LOGIT)
    mask = logits[chosen]
    if num_points <= MAX_POINTS_OF_THREE_MASKS:
        return Answer(logits[candidates], iou[candidates], mask, score, pointer, prompted)
    return Answer(np.broadcast_to(mask, (3, *mask.shape)), np.repeat(iou[chosen], 3), mask, score, pointer, prompted)


def stack_answers(answers: Sequence[Answer]) -> dict[str, Array]:
    """Put the answers of consecutive frames together: the four results by name, newly allocated."""
    return {
        "CANDIDATE_LOGITS": np.stack([answer.candidates for answer in answers]),
        "IOU": np.stack([answer.iou for answer in answers]),
        "OBJECT_SCORE": np.asarray([answer.score for answer in answers], np.float32),
        "MASK_LOGITS": np.stack([answer.mask for answer in answers]),
    }


def _stability(logits: Array) -> float:
    """How little a mask changes when its threshold moves, in [0, 1]; 1 for an empty one."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return np.count_nonzero(logits > STABILITY_DELTA) / outer if outer else 1.0

"""An answer's masks in the form that its caller wants, from the selected logits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from auralsam2_client.contract import ANSWERS

from ..engine import Array
from .run_lengths import encode_map
from .wish import Wish

_HALF = np.finfo(np.float16)


def in_form(answer: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """Put the masks of an answer into the form that was asked for, in place of all logits; the rest stays.

    Args:
        answer: with MASK_LOGITS [T, S/4, S/4] float32; an answer without masks stays as it is.
    """
    if wish.form is None or "MASK_LOGITS" not in answer:
        return dict(answer)
    logits = answer["MASK_LOGITS"]
    rest = {name: value for name, value in answer.items() if name not in ("MASK_LOGITS", "CANDIDATE_LOGITS")}
    return rest | {ANSWERS[wish.form]: _masks(logits, wish)}


def _masks(logits: Array, wish: Wish) -> Array:
    if wish.form == "float16":
        return to_half(logits)
    if wish.form == "bits":
        return np.packbits(logits > 0, axis=-1)
    if wish.form == "rle":
        return np.array([encode_map(frame, wish.height, wish.width) for frame in logits], np.object_)
    return logits


def to_half(logits: Array) -> Array:
    """Round to float16 so that what is above 0 stays above 0, and all is finite."""
    half = np.clip(logits, _HALF.min, _HALF.max).astype(np.float16)
    half[(logits > 0) & (half == 0)] = _HALF.smallest_subnormal
    return half

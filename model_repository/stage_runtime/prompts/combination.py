"""What sound found and what prompts found, as one answer."""

from collections.abc import Mapping

import numpy as np

from auralsam2_client.contract import COMBINATIONS

from ..engine import Array
from ..engine.refusals import BadRequest

# As far as SAM2's own logits reach when they are read again; a frame without object says -1024.
LOGIT_LIMIT = 32.0


def combine(audio: Mapping[str, Array], prompted: Mapping[str, Array], rule: str) -> dict[str, Array]:
    """Combine two answers to the same clip into one, in logit space.

    Args:
        audio, prompted: CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T], MASK_LOGITS [T, S/4, S/4].
        rule: "mean" of the logits, each within +-32: a frame that one of them leaves empty stays empty | "best_iou":
            frame by frame all of the side whose best candidate has the higher predicted IoU | "union": the larger
            logit. Nobody predicts the IoU of a mean or a union: it is the mean of both.
    Returns: the same four, newly allocated.
    Raises: BadRequest for another rule.
    """
    if rule not in COMBINATIONS:
        raise BadRequest(f"combination {rule!r} is unknown; choose one of {', '.join(COMBINATIONS)}.")
    if rule == "best_iou":
        better = audio["IOU"].max(axis=1) >= prompted["IOU"].max(axis=1)
        return {
            name: np.where(better.reshape(-1, *[1] * (audio[name].ndim - 1)), audio[name], prompted[name])
            for name in audio
        }
    iou = 0.5 * (audio["IOU"] + prompted["IOU"])
    if rule == "union":
        logits = {name: np.maximum(audio[name], prompted[name]) for name in audio if name != "IOU"}
    else:
        logits = {name: 0.5 * (_limited(audio[name]) + _limited(prompted[name])) for name in audio if name != "IOU"}
    return logits | {"IOU": iou}


def _limited(logits: Array) -> Array:
    return np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)

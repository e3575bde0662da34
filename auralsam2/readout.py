"""The three published ways to read one mask out of three candidates."""

from typing import Literal, get_args

import torch
from torch import Tensor

from auralsam2.errors import NetworkError

ReadOut = Literal["first", "iou", "iou_occlusion"]
READ_OUTS: tuple[ReadOut, ...] = get_args(ReadOut)
# SAM2's own logit for "no object here".
NO_OBJECT_LOGIT = -1024.0


def select(low_res_logits: Tensor, iou: Tensor, object_score: Tensor, read_out: ReadOut) -> Tensor:
    """One mask a frame.

    Args:
        low_res_logits: [T, 3, h, w]; iou: [T, 3]; object_score: [T, 1].
        read_out: "first" candidate | best predicted "iou" | "iou_occlusion", the same but empty where the object score
            is below 0.
    Returns: [T, h, w] logits; an empty mask is NO_OBJECT_LOGIT everywhere.
    Raises: NetworkError for another name.
    """
    if read_out not in READ_OUTS:
        raise NetworkError(f"read-out {read_out!r} is unknown; choose one of {', '.join(READ_OUTS)}.")
    if read_out == "first":
        return low_res_logits[:, 0]
    index = iou.argmax(dim=1)[:, None, None, None].expand(-1, 1, *low_res_logits.shape[2:])
    best = low_res_logits.gather(1, index)[:, 0]
    if read_out == "iou":
        return best
    return torch.where(object_score[:, :, None] < 0, torch.full_like(best, NO_OBJECT_LOGIT), best)

"""The three published ways to read one mask out of three candidates."""

from typing import Literal, get_args

import torch
from torch import Tensor

from auralsam2.errors import NetworkError

ReadOut = Literal["first", "iou", "iou_occlusion"]
READ_OUTS: tuple[ReadOut, ...] = get_args(ReadOut)
# SAM2's own logit for "no object here".
NO_OBJECT_LOGIT = -1024.0


def best(values: Tensor, iou: Tensor) -> Tensor:
    """Find the candidate with the highest predicted IoU, the first of equals.

    Compared, not looked up: a graph then computes no index, which on a GPU is work in 64-bit integers between kernels.

    Args:
        values: [T, 3, ...]; iou: [T, 3].
    Returns: [T, ...].
    """
    iou = iou.reshape(*iou.shape, *[1] * (values.ndim - 2))
    found, highest = values[:, 0], iou[:, 0]
    for candidate in range(1, values.shape[1]):
        found = torch.where(iou[:, candidate] > highest, values[:, candidate], found)
        highest = torch.maximum(highest, iou[:, candidate])
    return found


def select(
    low_res_logits: Tensor,
    iou: Tensor,
    object_score: Tensor,
    read_out: ReadOut,
    absent_logit: float = NO_OBJECT_LOGIT,
) -> Tensor:
    """Choose one mask a frame.

    Args:
        low_res_logits: [T, 3, h, w]; iou: [T, 3]; object_score: [T, 1].
        read_out: "first" candidate | best predicted "iou" | "iou_occlusion", the same but empty where the object score
            is below 0.
        absent_logit: fills an empty mask; 0 or less.
    Returns: [T, h, w] logits.
    Raises: NetworkError for another name.
    """
    if read_out not in READ_OUTS:
        raise NetworkError(f"read-out {read_out!r} is unknown; choose one of {', '.join(READ_OUTS)}.")
    if read_out == "first":
        return low_res_logits[:, 0]
    mask = best(low_res_logits, iou)
    return mask if read_out == "iou" else torch.where(object_score[:, :, None] < 0, absent_logit, mask)

"""What the wire does to masks: the gate's clip goes through JPEG as a client codes it, and as the stages decode it."""

import numpy as np

from auralsam2_client.contract import MIN_JPEG_IOU
from auralsam2_client.media.stills.frame_files import JPEG, encode_frames
from model_repository.stage_runtime.engine import Array
from model_repository.stage_runtime.frames.encoded import EncodedFrames


def through_jpeg(frames: Array) -> Array:
    """Code frames [T, S, S, 3] uint8 RGB at the client's setting, and decode them as the stages do."""
    num_frames, size, *_ = frames.shape
    return EncodedFrames(num_frames, size, frames.nbytes).decode(encode_frames(frames, JPEG))


def mask_iou(found: Array, wanted: Array) -> float:
    """Compute the IoU of two clips' masks from their logits, all frames together; 1 where both are empty."""
    found, wanted = found > 0, wanted > 0
    union = np.count_nonzero(found | wanted)
    return np.count_nonzero(found & wanted) / union if union else 1.0


def keeps_masks(jpeg_iou: float | None) -> bool:
    """Tell whether clients may take JPEG by themselves."""
    return jpeg_iou is not None and jpeg_iou >= MIN_JPEG_IOU

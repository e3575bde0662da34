"""Resizing as the published pipeline does it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize [T, H, W, 3] -> [T, size, size, 3] with PIL's bicubic filter, as the published pipeline does."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack(
        [np.asarray(Image.fromarray(f).resize((size, size), Image.Resampling.BICUBIC), np.uint8) for f in frames]
    )


def resize_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize [T, H, W] -> [T, *size], rows then columns, to PIL's nearest pixel, as the published pipeline does."""
    if masks.shape[1:] == size:
        return masks
    rows, columns = size
    return np.stack(
        [np.asarray(Image.fromarray(m).resize((columns, rows), Image.Resampling.NEAREST), bool) for m in masks]
    )

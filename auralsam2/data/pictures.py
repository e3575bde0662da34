"""Resizing of labels as the published pipeline does it; frames are resized as the client does (`media.frames`)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize [T, H, W] -> [T, *size], rows then columns, to PIL's nearest pixel, as the published pipeline does."""
    if masks.shape[1:] == size:
        return masks
    rows, columns = size
    return np.stack(
        [np.asarray(Image.fromarray(m).resize((columns, rows), Image.Resampling.NEAREST), bool) for m in masks]
    )

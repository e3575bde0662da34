"""Labels of classes at a quarter of the model's square, brought to the size of a video."""

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.enlarging import enlarge, taps


def enlarge_labels(class_map: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Enlarge labels to the size of masks: each pixel of a mask gets the class that weighs most there, bilinearly.

    An enlarged logit is above 0 only where one of the pixels that it is mixed of is, and that one has a class, so every
    pixel of the mask gets one.

    Args:
        class_map: [N, h, w] uint8, 0 outside the mask.
        masks: [N, H, W] bool.
    Returns: [N, H, W] uint8, 0 outside the masks.
    """
    rows, columns = taps(class_map.shape[1], masks.shape[1]), taps(class_map.shape[2], masks.shape[2])
    labels = np.zeros(masks.shape, np.uint8)
    for small, mask, out in zip(class_map, masks, labels, strict=True):
        heaviest = np.zeros(mask.shape, np.float32)
        for label in np.unique(small[small > 0]):
            weight = enlarge((small == label).astype(np.float32), rows, columns)
            out[weight > heaviest] = label
            np.maximum(weight, heaviest, out=heaviest)
        out[~mask] = 0
    return labels

"""The field's metrics, in plain NumPy. What is averaged over what, a `Protocol` says.

M_J  mean Jaccard: intersection over union a frame. In a frame without object AVSBench scores what was left empty: the
     share of pixels outside the mask.
M_F  F-score with beta^2 = 0.3 of the sigmoid of the logits, at 255 thresholds. Frames without object are left out; the
     curve is averaged over the frames of a clip, or of a batch of clips, and its maximum is the score.
S    Ref-AVS, for expressions that point at nothing: the share of pixels inside the mask, or its square root; 0 is best.

Source: AVSBench (Zhou et al. 2022), Ref-AVS (Wang et al. 2024), AuralSAM2's released evaluation.
"""

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
BETA_SQUARED = 0.3
NUM_THRESHOLDS = 255
THRESHOLDS = np.linspace(0, 1 - 1e-10, NUM_THRESHOLDS).astype(np.float32)
_TINY = 1e-20
_EPSILON = 1e-7


def jaccard(masks: Masks, truth: Masks) -> NDArray[np.float64]:
    """Compute the Jaccard index of each frame; for a frame without object, the share of pixels that the mask leaves
    empty.

    Args:
        masks, truth: [T, H, W] bool.
    Returns: [T] float64.
    Raises: ValueError when the shapes differ.
    """
    if masks.shape != truth.shape or masks.ndim != 3:
        raise ValueError(f"masks {list(masks.shape)} and truth {list(truth.shape)} must be one [T, H, W].")
    axes = (1, 2)
    overlap, union = (masks & truth).sum(axes), (masks | truth).sum(axes)
    num_pixels = masks.shape[1] * masks.shape[2]
    has_object = truth.any(axes)
    share = np.where(has_object, overlap, num_pixels - masks.sum(axes))
    return np.asarray(share / (np.where(has_object, union, num_pixels) + _EPSILON), np.float64)


def mean_iou(found: Masks, wanted: Masks) -> float:
    """Measure how far two sets of masks agree: the mean of their intersections over unions; 1 where both are empty.

    Args:
        found, wanted: [..., H, W] bool.
    Raises: ValueError when the shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"masks {list(found.shape)} and {list(wanted.shape)} must be of one shape [..., H, W].")
    overlap, union = (found & wanted).sum((-2, -1)), (found | wanted).sum((-2, -1))
    return float(np.mean(np.where(union == 0, 1.0, overlap / np.maximum(union, 1))))


def f_curve(scores: NDArray[np.float32], truth: Masks) -> NDArray[np.float64]:
    """Compute the F-score of one frame at each threshold.

    Args:
        scores: [H, W] float32 in [0, 1].
        truth: [H, W] bool, at least one pixel set.
    Returns: [255] float64; 0 where precision and recall both are.
    """
    # reached[p]: how many thresholds pixel p reaches; so pixel p is inside at thresholds 0 to reached[p] - 1.
    reached = np.searchsorted(THRESHOLDS, scores.ravel(), side="right")
    flat = truth.ravel()
    inside, hits = (
        np.cumsum(np.bincount(values, minlength=NUM_THRESHOLDS + 1)[::-1])[::-1][1:]
        for values in (reached, reached[flat])
    )
    precision, recall = hits / (inside + _TINY), hits / (flat.sum() + _TINY)
    weighed = BETA_SQUARED * precision + recall
    return np.asarray(
        np.divide((1 + BETA_SQUARED) * precision * recall, weighed, out=np.zeros(NUM_THRESHOLDS), where=weighed > 0)
    )


def f_curves(scores: NDArray[np.float32], truth: Masks) -> NDArray[np.float64]:
    """Compute the curve of each frame that shows an object.

    Args:
        scores: [T, H, W] float32 in [0, 1].
        truth: [T, H, W] bool.
    Returns: [N, 255] float64, N from 0 to T.
    """
    curves = [f_curve(frame, mask) for frame, mask in zip(scores, truth, strict=True) if mask.any()]
    return np.stack(curves) if curves else np.zeros((0, NUM_THRESHOLDS))


def f_score(curves: NDArray[np.float64]) -> float | None:
    """Compute the maximum of the mean of [N, 255] curves; None where N is 0."""
    return float(curves.mean(0).max()) if len(curves) else None


def null_score(inside: NDArray[np.int64], pixels: NDArray[np.int64], root: bool) -> float:
    """Compute Ref-AVS's S.

    Args:
        inside: [N] mask pixels of each clip.
        pixels: [N] pixels of each clip, inside and outside.
        root: the mean over clips of the square root of the share | the share over all clips together.
    """
    return float(np.sqrt(inside / pixels).mean() if root else inside.sum() / pixels.sum())

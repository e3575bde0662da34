"""AVSBench's semantic metric, in plain NumPy: mIoU and F-score by class, the background a class like the others.

AVSBench  A class occurs in a frame where mask or truth have a pixel of it. Its IoU is the mean over the frames in which
          it occurs of that frame's IoU, its F-score (beta^2 = 0.3) likewise, 0 where nothing is met.
pooled    Intersections, masks and truths are summed over all frames first: large things and frames weigh more.

Either way the figure is the mean over the classes that occur in any frame. Source: AVSBench (Zhou et al. 2023), Audio-
Visual Segmentation with Semantics, and its published evaluation, which divides by all 71 classes: all of its test split
occur. Its second figure, without background, leaves out the last class instead of the first; ours leaves out the first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2.evaluation.quality import BETA_SQUARED

Labels = NDArray[np.uint8]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class ClassFigures:
    """Means over classes, of one way to count."""

    mean_iou: float
    f_score: float
    mean_iou_without_background: float | None
    """None where no class but the background occurs."""
    f_score_without_background: float | None


@dataclass(frozen=True)
class SemanticScore:
    """What the label maps of a split are worth."""

    avsbench: ClassFigures
    pooled: ClassFigures
    iou_by_class: dict[str, float | None]
    """AVSBench's, by name; None where the class does not occur."""
    num_frames: int

    def as_json(self) -> dict[str, Any]:
        """Describe it for the report file."""
        return asdict(self)


class SemanticTally:
    """Sums over the frames of a split."""

    def __init__(self, names: Sequence[str]) -> None:
        """Count nothing yet. names: of labels 1 to K."""
        self.names = ("background", *names)
        count = len(self.names)
        self._hits, self._masks, self._truths = (np.zeros(count, np.int64) for _ in range(3))
        self._iou_sum, self._f_sum = np.zeros(count), np.zeros(count)
        self._occurs = np.zeros(count, np.int64)
        self._num_frames = 0

    def add(self, labels: Labels, truth: Labels) -> None:
        """Count the frames of one clip.

        Args:
            labels, truth: [T, H, W] uint8, 0 background, 1 to K.
        Raises: ValueError when the shapes differ, or a label is none of the names.
        """
        if labels.shape != truth.shape or labels.ndim != 3:
            raise ValueError(f"labels {list(labels.shape)} and truth {list(truth.shape)} must be one [T, H, W].")
        for found, wanted in zip(labels, truth, strict=True):
            hits, masks, truths = frame_counts(found, wanted, len(self.names))
            occurs = masks + truths > 0
            iou, f_score = _ratios(hits, masks, truths)
            self._iou_sum += np.where(occurs, iou, 0)
            self._f_sum += np.where(occurs, f_score, 0)
            self._occurs += occurs
            self._hits, self._masks, self._truths = self._hits + hits, self._masks + masks, self._truths + truths
            self._num_frames += 1

    def score(self) -> SemanticScore:
        """Average over frames and classes. Raises: ValueError before the first frame."""
        if not self._num_frames:
            raise ValueError("no frame was counted; add a clip first.")
        occurs = self._occurs > 0
        times = np.maximum(self._occurs, 1)
        by_class = self._iou_sum / times
        return SemanticScore(
            _figures(by_class, self._f_sum / times, occurs),
            _figures(*_ratios(self._hits, self._masks, self._truths), occurs),
            {
                name: float(iou) if there else None
                for name, iou, there in zip(self.names, by_class, occurs, strict=True)
            },
            self._num_frames,
        )


def frame_counts(
    labels: Labels, truth: Labels, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of each label in one frame: met, in the mask, in the truth; [count] each.

    Raises: ValueError for a label that is not below `count`.
    """
    largest = max(int(labels.max()), int(truth.max()))
    if largest >= count:
        raise ValueError(f"label {largest} is none of 0 to {count - 1}.")
    both = np.bincount(truth.ravel().astype(np.int64) * count + labels.ravel(), minlength=count**2)
    table = both.reshape(count, count)
    return table.diagonal(), table.sum(0), table.sum(1)


def _ratios(hits: NDArray[np.int64], masks: NDArray[np.int64], truths: NDArray[np.int64]) -> tuple[Values, Values]:
    """IoU and F-score of each class; 0 where nothing is met."""
    iou = hits / np.maximum(masks + truths - hits, 1)
    precision, recall = hits / np.maximum(masks, 1), hits / np.maximum(truths, 1)
    weighed = BETA_SQUARED * precision + recall
    f_score = np.divide((1 + BETA_SQUARED) * precision * recall, weighed, out=np.zeros(len(hits)), where=weighed > 0)
    return iou, f_score


def _figures(iou: Values, f_score: Values, occurs: NDArray[np.bool_]) -> ClassFigures:
    things = occurs.copy()
    things[0] = False
    without = (float(iou[things].mean()), float(f_score[things].mean())) if things.any() else (None, None)
    return ClassFigures(float(iou[occurs].mean()), float(f_score[occurs].mean()), *without)

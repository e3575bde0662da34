"""From predictions to figures: the three read-outs side by side, split by split."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import Predictor
from auralsam2.evaluation.quality import f_score, jaccard, null_score
from auralsam2.readout import READ_OUTS, ReadOut, select


@dataclass(frozen=True)
class Score:
    """One split under one read-out. None: the split has nothing to say about it."""

    mean_jaccard: float
    """M_J over all frames; a frame without object counts the share left empty."""
    mean_jaccard_with_object: float | None
    """M_J over the frames that show a sounding object."""
    mean_f_score: float | None
    """M_F."""
    empty_share: float
    """Share of frames whose mask is empty."""
    null_score: float
    """Ref-AVS's S: 0 when every mask is empty."""


@dataclass(frozen=True)
class SplitReport:
    """The figures of one split."""

    split: str
    num_clips: int
    num_frames: int
    num_frames_without_object: int
    scores: dict[ReadOut, Score]

    def as_json(self) -> dict[str, Any]:
        """For the report file."""
        return asdict(self)


class _Tally:
    """Running sums of one read-out."""

    def __init__(self) -> None:
        self.jaccards: list[float] = []
        self.with_object: list[float] = []
        self.f_scores: list[float] = []
        self.empty: list[bool] = []
        self.null_scores: list[float] = []

    def add(self, logits: torch.Tensor, sample: Sample) -> None:
        """logits: [T, H', W'] at the labels' size."""
        masks = (logits > 0).numpy()
        values = jaccard(masks, sample.masks)
        self.jaccards += values.tolist()
        self.with_object += values[sample.masks.any((1, 2))].tolist()
        self.empty += [not mask.any() for mask in masks]
        self.null_scores.append(null_score(masks))
        score = f_score(logits.sigmoid().numpy(), sample.masks)
        if score is not None:
            self.f_scores.append(score)

    def score(self) -> Score:
        return Score(
            float(np.mean(self.jaccards)),
            float(np.mean(self.with_object)) if self.with_object else None,
            float(np.mean(self.f_scores)) if self.f_scores else None,
            float(np.mean(self.empty)),
            float(np.mean(self.null_scores)),
        )


def evaluate(
    split: str, samples: Iterable[Sample], predict: Predictor, progress: Callable[[int], None] = lambda done: None
) -> SplitReport:
    """Score a model on the samples of one split.

    Args:
        split: its name, for the report.
        samples: at least one.
        predict: of one sample; logits are enlarged bilinearly to the size of its labels.
        progress: called with the number of clips done.
    Raises: DataError when there is no sample, and what reading samples raises.
    """
    tallies = {read_out: _Tally() for read_out in READ_OUTS}
    num_clips = num_frames = num_without = 0
    for sample in samples:
        prediction = predict(sample)
        parts = (prediction.candidates, prediction.iou, prediction.object_score[:, None])
        # Copies: what a server answered may be read-only.
        candidates, iou, object_score = (torch.from_numpy(np.array(part)) for part in parts)
        for read_out, tally in tallies.items():
            logits = select(candidates, iou, object_score, read_out)
            size = sample.masks.shape[1:]
            tally.add(F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0], sample)
        num_clips += 1
        num_frames += len(sample.masks)
        num_without += int((~sample.masks.any((1, 2))).sum())
        progress(num_clips)
    if not num_clips:
        raise DataError(f"split {split!r} holds no clip; nothing can be scored.")
    return SplitReport(
        split, num_clips, num_frames, num_without, {read_out: tally.score() for read_out, tally in tallies.items()}
    )

"""From predictions to figures: the three read-outs side by side, split by split, as a protocol says."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from auralsam2.data.pictures import resize_masks
from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import Prediction, Predictor
from auralsam2.evaluation.protocol import Protocol
from auralsam2.evaluation.quality import Masks, f_curves, f_score, jaccard, null_score
from auralsam2.network.readout import READ_OUTS, ReadOut, select

SCALE = 4
"""The network's size over that of its logits."""


@dataclass(frozen=True)
class Score:
    """One split under one read-out. None: the split has nothing to say about it."""

    mean_jaccard: float
    """M_J; a frame without object counts the share left empty."""
    mean_jaccard_with_object: float | None
    """Mean over the frames that show a sounding object, under any protocol."""
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
    protocol: str
    """Name of the protocol that made them."""
    headline: ReadOut
    """The read-out that this protocol reports."""
    num_clips: int
    num_frames: int
    num_frames_without_object: int
    scores: dict[ReadOut, Score]

    def as_json(self) -> dict[str, Any]:
        """Describe it for the report file."""
        return asdict(self)


class _Tally:
    """Running sums of one read-out."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.batch: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self.jaccards: list[NDArray[np.float64]] = []
        self.batch_jaccards: list[float] = []
        self.f_scores: list[float] = []
        self.with_object: list[float] = []
        self.empty: list[bool] = []
        self.inside: list[int] = []
        self.pixels: list[int] = []

    def add(self, logits: torch.Tensor, truth: Masks) -> None:
        """One clip. logits: [T, H, W], at the size of the truth."""
        masks = (logits > 0).numpy()
        values = jaccard(masks, truth)
        self.jaccards.append(values)
        self.with_object += values[truth.any((1, 2))].tolist()
        self.empty += [not mask.any() for mask in masks]
        self.inside.append(int(masks.sum()))
        self.pixels.append(masks.size)
        self.batch.append((values, f_curves(logits.sigmoid().numpy(), truth)))
        if len(self.batch) == self.protocol.clips_per_batch:
            self._close_batch()

    def _close_batch(self) -> None:
        """A split's last batch may hold fewer clips, and weighs as much as the others, as in the released scripts."""
        values, curves = (np.concatenate(parts) for parts in zip(*self.batch, strict=True))
        self.batch.clear()
        self.batch_jaccards.append(float(values.mean()))
        score = f_score(curves)
        if score is not None:
            self.f_scores.append(score)
        elif self.protocol.without_object == "zero":
            self.f_scores.append(0.0)

    def score(self) -> Score:
        if self.batch:
            self._close_batch()
        over_frames = self.protocol.jaccard_over == "frames"
        return Score(
            float(np.mean(np.concatenate(self.jaccards) if over_frames else self.batch_jaccards)),
            float(np.mean(self.with_object)) if self.with_object else None,
            float(np.mean(self.f_scores)) if self.f_scores else None,
            float(np.mean(self.empty)),
            null_score(np.array(self.inside), np.array(self.pixels), self.protocol.null_metric == "root"),
        )


def read_out_logits(
    prediction: Prediction, read_out: ReadOut, size: tuple[int, int], absent_logit: float
) -> torch.Tensor:
    """Return [T, *size] float32 logits of one read-out, enlarged bilinearly."""
    parts = (prediction.candidates, prediction.iou, prediction.object_score[:, None])
    # Copies: what a server answered may be read-only.
    candidates, iou, object_score = (torch.from_numpy(np.array(part)) for part in parts)
    logits = select(candidates, iou, object_score, read_out, absent_logit)
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def evaluate(
    split: str,
    samples: Iterable[Sample],
    predict: Predictor,
    progress: Callable[[int], None] = lambda done: None,
    *,
    protocol: Protocol,
) -> SplitReport:
    """Score a model on the samples of one split.

    Args:
        split: its name, for the report.
        samples: at least one, read as the protocol says.
        predict: of one sample; its precision and conditioning frame are whoever made it's to choose.
        progress: called with the number of clips done.
        protocol: what is compared where, and averaged over what. The command's default is the released one.
    Raises: DataError when there is no sample, and what reading samples raises; NetworkError for a prediction that is
        not finite.
    """
    tallies = {read_out: _Tally(protocol) for read_out in READ_OUTS}
    num_clips = num_frames = num_without = 0
    for sample in samples:
        prediction = predict(sample)
        prediction.check_finite(sample.name)
        rows, columns = sample.masks.shape[1:]
        if protocol.compared_at == "network":
            rows, columns = (SCALE * side for side in prediction.candidates.shape[2:])
        truth = resize_masks(sample.masks, (rows, columns))
        for read_out, tally in tallies.items():
            tally.add(read_out_logits(prediction, read_out, (rows, columns), protocol.absent_logit), truth)
        num_clips += 1
        num_frames += len(truth)
        num_without += int((~truth.any((1, 2))).sum())
        progress(num_clips)
    if not num_clips:
        raise DataError(f"split {split!r} holds no clip; nothing can be scored.")
    scores = {read_out: tally.score() for read_out, tally in tallies.items()}
    return SplitReport(split, protocol.name, protocol.headline, num_clips, num_frames, num_without, scores)

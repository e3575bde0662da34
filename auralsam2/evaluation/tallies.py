"""What is counted of a batch of clips, and the figures of a split that are made of its batches.

A batch is the least part of a split whose figures stand for themselves: M_F is the maximum of its mean curve. So a
batch can be kept on disk and joined with others later, and the figures are the same to the last digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auralsam2.evaluation.protocol import Protocol
from auralsam2.evaluation.quality import Masks, f_curves, f_score, jaccard, null_score
from auralsam2.network.readout import ReadOut


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
class Counts:
    """A batch under one read-out."""

    jaccards: tuple[float, ...]
    """Of each frame."""
    jaccard: float
    """Their mean."""
    f_score: float | None
    """None: no frame shows an object."""
    empty: tuple[bool, ...]
    """Whether the mask of each frame is empty."""
    inside: tuple[int, ...]
    """Mask pixels of each clip."""


@dataclass(frozen=True)
class Batch:
    """Clips that were scored together."""

    clips: tuple[str, ...]
    """Their names."""
    has_object: tuple[bool, ...]
    """Whether each frame, one clip after the other, shows a sounding object."""
    pixels: tuple[int, ...]
    """Of each clip, inside and outside."""
    read_outs: Mapping[ReadOut, Counts]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Batch":
        """Read what `dataclasses.asdict` and JSON made of a batch. Raises: KeyError or TypeError for another form."""
        read_outs = {
            name: Counts(
                tuple(counts["jaccards"]),
                counts["jaccard"],
                counts["f_score"],
                tuple(counts["empty"]),
                tuple(counts["inside"]),
            )
            for name, counts in record["read_outs"].items()
        }
        return cls(tuple(record["clips"]), tuple(record["has_object"]), tuple(record["pixels"]), read_outs)


class Tally:
    """What is known of a batch under one read-out, clip by clip."""

    def __init__(self) -> None:
        self._jaccards: list[NDArray[np.float64]] = []
        self._curves: list[NDArray[np.float64]] = []
        self._empty: list[bool] = []
        self._inside: list[int] = []

    def add(self, logits: torch.Tensor, truth: Masks) -> None:
        """Count one clip. logits: [T, H, W], at the size of the truth."""
        masks = (logits > 0).numpy()
        self._jaccards.append(jaccard(masks, truth))
        self._curves.append(f_curves(logits.sigmoid().numpy(), truth))
        self._empty += [not mask.any() for mask in masks]
        self._inside.append(int(masks.sum()))

    def counts(self) -> Counts:
        """Close the batch."""
        values, curves = np.concatenate(self._jaccards), np.concatenate(self._curves)
        return Counts(
            tuple(values.tolist()), float(values.mean()), f_score(curves), tuple(self._empty), tuple(self._inside)
        )


def score_of(batches: Sequence[Batch], read_out: ReadOut, protocol: Protocol) -> Score:
    """Make the figures of a split.

    A split's last batch may hold fewer clips, and weighs as much as the others, as in the released scripts.
    """
    counted = [batch.read_outs[read_out] for batch in batches]
    jaccards = np.array([value for counts in counted for value in counts.jaccards])
    has_object = np.array([shown for batch in batches for shown in batch.has_object])
    without = 0.0 if protocol.without_object == "zero" else None
    f_scores = [without if counts.f_score is None else counts.f_score for counts in counted]
    known = [value for value in f_scores if value is not None]
    over_frames = protocol.jaccard_over == "frames"
    return Score(
        float(np.mean(jaccards if over_frames else [counts.jaccard for counts in counted])),
        float(np.mean(jaccards[has_object])) if has_object.any() else None,
        float(np.mean(known)) if known else None,
        float(np.mean([empty for counts in counted for empty in counts.empty])),
        null_score(
            np.array([count for counts in counted for count in counts.inside]),
            np.array([count for batch in batches for count in batch.pixels]),
            protocol.null_metric == "root",
        ),
    )

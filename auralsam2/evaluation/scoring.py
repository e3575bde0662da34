"""From predictions to figures: the three read-outs side by side, split by split, as a protocol says."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F

from auralsam2.data.pictures import resize_masks
from auralsam2.data.samples import Clip, Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import Prediction, Predictor
from auralsam2.evaluation.protocol import Protocol
from auralsam2.evaluation.tallies import Batch, Score, Tally, score_of
from auralsam2.network.readout import READ_OUTS, ReadOut, select

SCALE = 4
"""The network's size over that of its logits."""


@dataclass(frozen=True)
class LeftOut:
    """A clip that no figure is made of."""

    clip: str
    """Its name."""
    fault: str


class Journal(Interface):
    """What keeps batches as they come, so that an interrupted run can go on."""

    def find(self, split: str) -> Mapping[tuple[str, ...], Batch]:
        """Return the batches of a split that were scored before, by the names of their clips."""
        ...

    def add(self, split: str, batch: Batch) -> None:
        """Keep one more."""
        ...


@dataclass(frozen=True)
class SplitReport:
    """The figures of one split."""

    split: str
    protocol: str
    """Name of the protocol that made them."""
    headline: ReadOut
    """The read-out that this protocol reports."""
    num_clips: int
    """Those that the figures are made of."""
    num_frames: int
    num_frames_without_object: int
    scores: dict[ReadOut, Score]
    left_out: tuple[LeftOut, ...] = ()
    """The others."""

    def as_json(self) -> dict[str, Any]:
        """Describe it for the report file."""
        return asdict(self)


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
    clips: Iterable[Clip],
    predict: Predictor,
    progress: Callable[[int], None] = lambda done: None,
    *,
    protocol: Protocol,
    journal: Journal | None = None,
    on_left_out: Callable[[LeftOut], None] = lambda clip: None,
) -> SplitReport:
    """Score a model on the clips of one split. Those that cannot be read are left out, as if they were not listed.

    Args:
        split: its name, for the report.
        clips: at least one that can be read, opened as the protocol says.
        predict: of one sample; its precision and conditioning frame are whoever made it's to choose.
        progress: called with the number of clips done.
        protocol: what is compared where, and averaged over what. The command's default is the released one.
        journal: batches that it has kept are neither read nor predicted again; each new one is given to it.
        on_left_out: called with each clip that is left out, as soon as it is known.
    Raises: DataError when no clip is left, and what going through `clips` raises; NetworkError for a prediction that is
        not finite.
    """
    run = _Split(split, predict, progress, protocol, journal, on_left_out)
    for clip in clips:
        run.add(clip)
    return run.report()


class _Split:
    """One split on its way."""

    def __init__(
        self,
        name: str,
        predict: Predictor,
        progress: Callable[[int], None],
        protocol: Protocol,
        journal: Journal | None,
        on_left_out: Callable[[LeftOut], None],
    ) -> None:
        self._name, self._predict, self._progress = name, predict, progress
        self._protocol, self._journal, self._on_left_out = protocol, journal, on_left_out
        self._kept = {} if journal is None else journal.find(name)
        self._in_kept = {clip for clips in self._kept for clip in clips}
        self._pending: list[Clip] = []
        self._batches: list[Batch] = []
        self._left_out: list[LeftOut] = []
        self._num_done = 0

    def add(self, clip: Clip) -> None:
        """Take one more clip. What was scored before is read only when its batch turns out to be another one."""
        self._pending += [clip] if clip.name in self._in_kept else self._read([clip])
        if len(self._pending) == self._protocol.clips_per_batch:
            self._close_batch()

    def report(self) -> SplitReport:
        if self._pending:
            self._close_batch(last=True)
        if not self._batches:
            if self._left_out:
                first = self._left_out[0]
                raise DataError(
                    f"split {self._name!r}: none of its {len(self._left_out)} clips can be used. {first.clip}:"
                    f" {first.fault}"
                )
            raise DataError(f"split {self._name!r} holds no clip; nothing can be scored.")
        has_object = [shown for batch in self._batches for shown in batch.has_object]
        return SplitReport(
            self._name,
            self._protocol.name,
            self._protocol.headline,
            sum(len(batch.clips) for batch in self._batches),
            len(has_object),
            has_object.count(False),
            {read_out: score_of(self._batches, read_out, self._protocol) for read_out in READ_OUTS},
            tuple(self._left_out),
        )

    def _read(self, clips: list[Clip]) -> list[Sample]:
        """Those that can be read."""
        samples = []
        for clip in clips:
            try:
                samples.append(clip.read())
            except DataError as error:
                self._left_out.append(LeftOut(clip.name, str(error)))
                self._on_left_out(self._left_out[-1])
        return samples

    def _close_batch(self, last: bool = False) -> None:
        batch = self._kept.get(tuple(clip.name for clip in self._pending))
        if batch is None:
            samples = self._read(self._pending)
            if not samples or (len(samples) < len(self._pending) and not last):
                self._pending = list(samples)
                return
            batch = self._scored(samples)
            if self._journal is not None:
                self._journal.add(self._name, batch)
        else:
            self._count(len(batch.clips))
        self._batches.append(batch)
        self._pending = []

    def _scored(self, samples: list[Sample]) -> Batch:
        tallies = {read_out: Tally() for read_out in READ_OUTS}
        has_object: list[bool] = []
        pixels: list[int] = []
        for sample in samples:
            prediction = self._predict(sample)
            prediction.check_finite(sample.name)
            rows, columns = sample.masks.shape[1:]
            if self._protocol.compared_at == "network":
                rows, columns = (SCALE * side for side in prediction.candidates.shape[2:])
            truth = resize_masks(sample.masks, (rows, columns))
            for read_out, tally in tallies.items():
                tally.add(read_out_logits(prediction, read_out, (rows, columns), self._protocol.absent_logit), truth)
            has_object += [bool(mask.any()) for mask in truth]
            pixels.append(truth.size)
            self._count(1)
        counts = {read_out: tally.counts() for read_out, tally in tallies.items()}
        return Batch(tuple(sample.name for sample in samples), tuple(has_object), tuple(pixels), counts)

    def _count(self, num_clips: int) -> None:
        self._num_done += num_clips
        self._progress(self._num_done)

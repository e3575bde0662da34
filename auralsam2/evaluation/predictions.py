"""What a model is asked and what it answers; and the same clips with sound that is not theirs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.samples import Clip, Sample, Unread
from auralsam2.errors import DataError, NetworkError


@dataclass(frozen=True)
class Prediction:
    """What a model says about a sample; all that the three read-outs need."""

    candidates: NDArray[np.float32]
    """[T, 3, h, w] logits."""
    iou: NDArray[np.float32]
    """[T, 3]."""
    object_score: NDArray[np.float32]
    """[T] logits."""

    def check_finite(self, clip: str) -> None:
        """Refuse an answer that no figure can be made of.

        Args:
            clip: its name, for the message.
        Raises: NetworkError when a value is NaN or Inf. A mask of NaN counts as empty, and would be scored as one.
        """
        for name, values in vars(self).items():
            num_lost = int((~np.isfinite(values)).sum())
            if num_lost:
                raise NetworkError(
                    f"{clip}: {num_lost} of {values.size} predicted values ({name}) are not finite, so there are no"
                    " figures. The weights have diverged in training, or a build computes them in too narrow a type:"
                    " give other weights, or a build of a wider type."
                )


Predictor = Callable[[Sample], Prediction]
Sound = Literal["own", "other", "silent"]
SOUNDS: tuple[Sound, ...] = get_args(Sound)


def with_sound(clips: Iterable[Clip], sound: Sound) -> Iterator[Clip]:
    """Yield the clips, each with the sound of the one before it that can be read (the first: of the last), or silent.

    Raises: DataError for another word, at once; while going through them, when "other" finds less than two clips that
        can be read. A clip that cannot be raises it when it is read.
    """
    if sound not in SOUNDS:
        raise DataError(f"sound {sound!r} is unknown; choose one of {', '.join(SOUNDS)}.")
    if sound == "own":
        return iter(clips)
    return (Unread(clip.name, partial(_silent, clip)) for clip in clips) if sound == "silent" else _exchanged(clips)


def _silent(clip: Clip) -> Sample:
    sample = clip.read()
    return replace(sample, windows=np.zeros_like(sample.windows))


def _exchanged(clips: Iterable[Clip]) -> Iterator[Clip]:
    first: Sample | None = None
    before: Sample | None = None
    for clip in clips:
        try:
            sample = clip.read()
        except DataError as error:
            yield Unread(clip.name, partial(_fail, error))
            continue
        if before is None:
            first = sample
        else:
            yield _hearing(sample, before)
        before = sample
    if first is None or before is None or first is before:
        raise DataError("sound 'other' needs at least two clips, to exchange their sounds.")
    yield _hearing(first, before)


def _fail(error: DataError) -> Sample:
    raise error


def _hearing(sample: Sample, other: Sample) -> Sample:
    """The name says whose sound it is, since what is kept of a clip is known by its name."""
    return replace(sample, name=f"{sample.name} with the sound of {other.name}", windows=other.windows)

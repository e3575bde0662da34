"""What a classifier calls the things of some clips, against what they are, with controls that give figures a meaning.

Controls on the same masks: each class called by the next one's name (`exchanged`), which a figure that classes did not
enter would survive; and each pixel that mask and truth share called right (`true classes`), the most that names can
give on these masks. Others change what is heard: see `HEARINGS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from auralsam2.classes.classifier import ClassifiedClip, Classifier, enlarge_labels
from auralsam2.data.labelled import BACKGROUND, LabelledClip, Reader
from auralsam2.errors import DataError
from auralsam2.evaluation.classes.semantic import Labels, SemanticScore, SemanticTally
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2_client.media.stills.frames import resize_frames

Hearing = Literal["own", "other", "silent", "tokens hear another"]
HEARINGS: tuple[Hearing, ...] = get_args(Hearing)
"""The clip's own sound | that of the clip before it (the first: of the last) | none | masks by its own sound, class
tokens by the other."""
DIGITS = 5
PRESENT = 0.5
"""A class counts as named in a frame from this score on."""


@dataclass(frozen=True)
class ClassReport:
    """The figures of one split, heard in one way."""

    split: str
    hearing: Hearing
    score: SemanticScore
    exchanged: SemanticScore
    true_classes: SemanticScore
    named_right: float | None
    """Of the pixels that mask and truth share, the share that has the right class; None where they share none."""
    frames_right: float
    """Share of frames in which the classes with a score of 0.5 or more are those that sound."""
    agreement: dict[str, float]
    """By clip: the share of pixels, of those that labels or truth mark, that both mark alike; 1 where neither does."""
    left_out: tuple[str, ...]
    """Faults of clips that could not be read; no figure is made of them."""

    def as_json(self) -> dict[str, Any]:
        """Describe it for the report file."""
        return asdict(self)


class Judge:
    """A classifier, and the labels of a data set that it is held against."""

    def __init__(self, classifier: Classifier, names: Sequence[str]) -> None:
        """Match classes by name. names: of the data set's labels 1 to K.

        Raises: DataError when the classifier knows a class that the data set has not.
        """
        strange = [name for name in classifier.names if name not in names]
        if strange:
            raise DataError(
                f"the class head names {', '.join(strange[:5])}, which the data set's labels do not; it has"
                f" {', '.join(list(names)[:8])}{' and more' if len(names) > 8 else ''}. Give a head of these classes."
            )
        self.classifier, self.names = classifier, tuple(names)
        self._label_of = np.array([BACKGROUND, *(self.names.index(name) + 1 for name in classifier.names)], np.uint8)
        self._log_mel = LogMel()

    def classify(self, clip: LabelledClip, hearing: Hearing, other: LabelledClip) -> tuple[Labels, NDArray[np.bool_]]:
        """Name what sounds in a clip.

        Returns: labels [T, H', W'] uint8 of the data set, at the size of the truth; and which of its K classes have a
            score of 0.5 or more, [T, K].
        """
        with torch.inference_mode():
            found = self._hear(clip, hearing, other)
            rows, columns = clip.labels.shape[1:]
            labels = enlarge_labels(found.class_map, found.mask_logits, (rows, columns)).numpy()
        named = np.zeros((len(labels), len(self.names)), bool)
        named[:, self._label_of[1:] - 1] = found.class_scores.numpy() >= PRESENT
        return self._label_of[labels], named

    def _hear(self, clip: LabelledClip, hearing: Hearing, other: LabelledClip) -> ClassifiedClip:
        size = self.classifier.model.image_size
        frames = normalise(torch.from_numpy(resize_frames(clip.sample.frames, size)))
        own, another = (self._log_mel(torch.from_numpy(_windows(each, len(frames)))) for each in (clip, other))
        if hearing == "silent":
            own = self._log_mel(torch.zeros(len(frames), *clip.sample.windows.shape[1:]))
        if hearing == "tokens hear another":
            return self.classifier.classify(frames, own, heard_by_head=another)
        return self.classifier.classify(frames, another if hearing == "other" else own)


def _windows(clip: LabelledClip, num_frames: int) -> NDArray[np.float32]:
    windows = clip.sample.windows_per_frame()
    return windows[np.minimum(np.arange(num_frames), len(windows) - 1)]


def judge_split(
    split: str,
    readers: Sequence[Reader],
    judge: Judge,
    hearing: Hearing = "own",
    progress: Callable[[int], None] = lambda done: None,
) -> ClassReport:
    """Hold what a classifier says of the clips of a split against what they are.

    Args:
        readers: of its clips; those that cannot be read are left out.
        progress: called with the number of the clip that is begun.
    Raises: DataError when none can be read.
    """
    score, exchanged, true_classes = (SemanticTally(judge.names) for _ in range(3))
    count, shared, right, frames_right, num_frames = len(judge.names), 0, 0, 0, 0
    agreement, left_out = dict[str, float](), list[str]()
    before = _last(split, readers)
    for done, reader in enumerate(readers, 1):
        progress(done)
        try:
            clip = reader()
        except DataError as error:
            left_out.append(str(error))
            continue
        labels, named = judge.classify(clip, hearing, before)
        truth, inside = clip.labels, labels != BACKGROUND
        both = inside & (truth != BACKGROUND)
        score.add(labels, truth)
        exchanged.add(np.where(inside, labels % count + 1, BACKGROUND).astype(np.uint8), truth)
        true_classes.add(np.where(both, truth, labels), truth)
        shared, right = shared + int(both.sum()), right + int((both & (labels == truth)).sum())
        sounding = np.stack([[(frame == label).any() for label in range(1, count + 1)] for frame in truth])
        frames_right += int((named == sounding).all(1).sum())
        num_frames += len(truth)
        marked = inside | (truth != BACKGROUND)
        alike = float((labels == truth)[marked].mean()) if marked.any() else 1.0
        agreement[clip.sample.name] = round(alike, DIGITS)
        before = clip
    return ClassReport(
        split,
        hearing,
        score.score(),
        exchanged.score(),
        true_classes.score(),
        right / shared if shared else None,
        frames_right / num_frames,
        agreement,
        tuple(left_out),
    )


def _last(split: str, readers: Sequence[Reader]) -> LabelledClip:
    """The last clip that can be read."""
    fault = "It lists none."
    for reader in reversed(readers):
        try:
            return reader()
        except DataError as error:
            fault = str(error)
    raise DataError(f"split {split!r}: none of its {len(readers)} clips can be used. {fault}")

"""What is made of a classifier's labels, and that the shipped head names what it named."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.classifier import ClassifiedClip, Classifier
from auralsam2.classes.head_file import load_classifier
from auralsam2.data.labelled import LabelledClip, Reader
from auralsam2.data.samples import Sample
from auralsam2.data.world.labels import open_labelled
from auralsam2.data.world.scenes import Split
from auralsam2.data.world.shapes import SHAPES
from auralsam2.errors import DataError
from auralsam2.evaluation.classes.judging import Hearing, Judge, judge_split
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.shipped import shipped_weights
from auralsam2.presets import preset

NAMES = ("cat", "dog", "cow")
SIZE = 256
# Another CPU adds in another order: room for a few pixels at the edges of masks.
TOLERANCE = 0.01


class Told(Classifier):
    """Says of each clip what the test wants: the left half is a dog, and dog and cat are heard."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(AuralSAM2.from_preset("compact"), ClassHead(preset("compact"), len(names)), names)
        self.heard = list[tuple[float, float | None]]()

    def classify(
        self,
        frames: Tensor,
        log_mel: Tensor,
        conditioning_frame: int = 0,
        read_out: object = None,
        heard_by_head: Tensor | None = None,
    ) -> ClassifiedClip:
        self.heard.append((float(log_mel.mean()), None if heard_by_head is None else float(heard_by_head.mean())))
        logits = torch.full((len(frames), 64, 64), -1.0)
        logits[..., :32] = 1.0
        class_map = torch.where(logits > 0, self.names.index("dog") + 1, 0).to(torch.uint8)
        scores = torch.tensor([float(name in ("dog", "cat")) for name in self.names]).expand(len(frames), -1)
        return ClassifiedClip(logits, class_map, scores)


def clip(number: int, labels: tuple[int, ...]) -> LabelledClip:
    """Two frames; `labels` are of quarters, from left to right. The sound grows louder with the number."""
    quarter = SIZE // 4
    truth = np.repeat(np.array(labels, np.uint8), quarter)[None, None].repeat(2, 0).repeat(SIZE, 1)
    sound = np.full((2, 15600, 2), 0.0, np.float32)
    sound[:, ::2] = 0.1 * (number + 1)
    return LabelledClip(Sample(f"clip {number}", np.zeros((2, SIZE, SIZE, 3), np.uint8), sound, truth > 0), truth)


def readers(*clips: LabelledClip) -> list[Reader]:
    return [lambda each=each: each for each in clips]  # type: ignore[misc]


@pytest.fixture
def clips() -> list[Reader]:
    # Found is dog in the two quarters on the left of each.
    return readers(clip(0, (2, 2, 0, 0)), clip(1, (2, 1, 0, 0)), clip(2, (0, 0, 0, 1)))


def test_figures_are_those_of_the_labels(clips: list[Reader]) -> None:
    report = judge_split("some", clips, Judge(Told(("dog", "cat")), NAMES))
    assert report.agreement == pytest.approx({"clip 0": 1.0, "clip 1": 0.5, "clip 2": 0.0})
    assert report.named_right == pytest.approx(3 / 4)
    assert report.frames_right == pytest.approx(1 / 3), "cat and dog are in clip 1 alone"
    iou = report.score.iou_by_class
    assert iou["dog"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert iou["cat"] == 0
    assert iou["cow"] is None
    # With the true names on these masks: clip 0 and 1 whole, clip 2 as lost as before.
    assert report.true_classes.iou_by_class["dog"] == pytest.approx((1 + 1 + 0) / 3)
    assert report.true_classes.iou_by_class["cat"] == pytest.approx((1 + 0) / 2)
    # Dog is called cow.
    assert report.exchanged.iou_by_class["dog"] == 0
    assert report.exchanged.iou_by_class["cow"] == 0
    json.dumps(report.as_json())


@pytest.mark.parametrize("hearing", ["own", "other", "silent", "tokens hear another"])
def test_each_hearing_gives_masks_and_tokens_their_sound(clips: list[Reader], hearing: Hearing) -> None:
    told = Told(("dog", "cat"))
    judge_split("some", clips, Judge(told, NAMES), hearing)
    own = Told(("dog", "cat"))
    judge_split("some", clips, Judge(own, NAMES))
    sounds = [masks for masks, _ in own.heard]
    before = [sounds[-1], *sounds[:-1]]
    masks, tokens = zip(*told.heard, strict=True)
    assert len(set(sounds)) == 3
    if hearing == "silent":
        assert len(set(masks)) == 1
        assert masks[0] < min(sounds)
    else:
        assert list(masks) == (before if hearing == "other" else sounds)
    assert list(tokens) == (before if hearing == "tokens hear another" else [None] * 3)


def test_a_clip_that_cannot_be_read_is_left_out(clips: list[Reader]) -> None:
    def broken() -> LabelledClip:
        raise DataError("its labels are gone.")

    judge = Judge(Told(("dog",)), NAMES)
    report = judge_split("some", [broken, *clips, broken], judge)
    whole = judge_split("some", clips, judge)
    assert report.left_out == ("its labels are gone.",) * 2
    assert replace(report, left_out=()) == whole
    with pytest.raises(DataError, match=r"none of its 1 clips can be used\. its labels are gone"):
        judge_split("some", [broken], judge)


def test_classes_that_the_data_does_not_have_are_named() -> None:
    with pytest.raises(DataError, match="names bird, which the data set's labels do not; it has cat, dog, cow"):
        Judge(Told(("dog", "bird")), NAMES)


@pytest.fixture(scope="module")
def kept() -> dict[str, dict[str, float]]:
    weights = shipped_weights("compact")
    assert weights is not None
    record = json.loads(weights.with_name("compact-classes.figures.json").read_text())
    return {case["split"]: case["agreement"] for case in record["cases"] if case["hearing"] == "own"}


def test_the_shipped_head_names_what_it_named(kept: dict[str, dict[str, float]]) -> None:
    judge = Judge(load_classifier(), SHAPES)
    cases: tuple[tuple[Split, int], ...] = (("single", 0), ("multi", 1), ("unseen", 1))
    for split, number in cases:
        (reader,) = open_labelled(split, number + 1)[number:]
        ((name, agreement),) = judge_split(split, [reader], judge).agreement.items()
        assert agreement == pytest.approx(kept[split][name], abs=TOLERANCE), name

"""Figures clip by clip: their means are the evaluation's own, and the file gives back what was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.clip_figures import CASES, READ_OUT, ClipFigures, Figures, score_clips
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.protocol import PROJECT_AVSBENCH
from auralsam2.evaluation.scoring import evaluate

CASE = CASES[0]


def sample(number: int, seen: tuple[int, ...]) -> Sample:
    """Four frames of 16 px, with an object in the frames `seen`."""
    masks = np.zeros((4, 16, 16), bool)
    masks[list(seen), 4:9, 3 : 8 + number] = True
    return Sample(f"clip {number}", np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 15600, 2), np.float32), masks)


SAMPLES = [sample(0, (0, 1, 2, 3)), sample(1, (2,)), sample(2, ())]


def predict(sample: Sample) -> Prediction:
    """The truth, noisy enough that every column differs from clip to clip; one frame is judged empty."""
    noise = np.random.default_rng(len(sample.name) + int(sample.masks.sum())).normal(0, 0.7, (4, 3, 16, 16))
    candidates = np.where(sample.masks[:, None], 1.0, -1.0) + noise
    return Prediction(
        candidates.astype(np.float32), np.tile([0.2, 0.9, 0.1], (4, 1)).astype(np.float32), np.float32([1, 1, -1, 1])
    )


@pytest.fixture
def figures() -> Figures:
    return Figures("01234567", {CASE.name: tuple(score_clips(SAMPLES, predict))})


def test_means_are_those_of_an_evaluation_of_all_clips(figures: Figures) -> None:
    wanted = evaluate("single", SAMPLES, predict, protocol=PROJECT_AVSBENCH).scores[READ_OUT]
    assert figures.means(CASE) == pytest.approx(
        {
            "M_J": wanted.mean_jaccard,
            "M_J with object": wanted.mean_jaccard_with_object,
            "M_F": wanted.mean_f_score,
            "empty": wanted.empty_share,
        },
        abs=2e-5,
    )


def test_a_clip_without_object_has_no_figure_of_one(figures: Figures) -> None:
    assert [clip.num_frames_with_object for clip in figures.clips[CASE.name]] == [4, 1, 0]
    empty = figures.clips[CASE.name][2]
    assert (empty.jaccard_with_object, empty.f_score) == (None, None)


def test_what_was_written_is_read_and_a_clip_is_a_line(figures: Figures, tmp_path: Path) -> None:
    path = tmp_path / "compact.figures.json"
    figures.write(path)
    assert Figures.read(path) == figures
    rows = [line for line in path.read_text().splitlines() if line.strip().rstrip(",").startswith("[0.")]
    assert len(rows) == len(SAMPLES)


def test_a_file_of_another_form_names_the_command(figures: Figures, tmp_path: Path) -> None:
    path = tmp_path / "compact.figures.json"
    figures.write(path)
    record = json.loads(path.read_text()) | {"columns": list(ClipFigures._fields[1:])}
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"compact\.figures\.json: columns .*clip_figures"):
        Figures.read(path)

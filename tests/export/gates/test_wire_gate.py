"""What JPEG does to masks is a number of the build, and from 0.995 on the build says so."""

import json
from pathlib import Path

import numpy as np

from export.gates.sample_clip import sample_frames
from export.gates.wire_gate import keeps_masks, mask_iou, through_jpeg


def test_a_clip_comes_back_nearly_as_it_was() -> None:
    frames = sample_frames(2, 64)
    coded = through_jpeg(frames)
    assert coded.shape == frames.shape
    assert 0 < np.abs(coded.astype(int) - frames).mean() < 3


def test_the_iou_is_of_the_masks_of_all_frames() -> None:
    logits = np.full((2, 4, 4), -1.0, np.float32)
    assert mask_iou(logits, logits) == 1.0, "both empty"
    wanted = logits.copy()
    wanted[0] = 1
    found = wanted.copy()
    found[0, 0], found[1, 0] = -1, 3
    assert mask_iou(found, wanted) == 12 / 20


def test_a_build_bears_jpeg_from_0_995_on() -> None:
    assert [keeps_masks(iou) for iou in (None, 0.0, 0.9949, 0.995, 1.0)] == [False, False, False, True, True]


def test_a_build_names_what_was_measured(small_build: Path) -> None:
    measured = json.loads((small_build / "manifest.json").read_text())["wire"]["jpeg_iou"]
    assert 0.5 < measured < 1
    config = (small_build / "models" / "auralsam2" / "config.pbtxt").read_text()
    assert ("JPEG_KEEPS_MASKS" in config) == keeps_masks(measured)

"""Learning classes: the network stays as it is, the head learns, and what is written is the head with its names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from auralsam2 import checkpoints
from auralsam2.classes.head_file import read_head
from auralsam2.data.world.shapes import SHAPES
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.shipped import sha256_of, shipped_weights
from auralsam2.network.log_mel import LogMel
from auralsam2.training.after import class_tuning
from auralsam2.training.after.class_tuning import Masked, Tuner, read_clip
from auralsam2.training.after.lesson import Report, Settings, teach

SETTINGS = Settings(clips=1, steps=40, learning_rate=4e-3)


@pytest.fixture(scope="module")
def frames() -> list[Masked]:
    with torch.no_grad():
        return read_clip(load_aural_sam2("compact")[0], LogMel(), 0, seed=0)


@pytest.fixture
def tuner(frames: list[Masked], monkeypatch: pytest.MonkeyPatch) -> Tuner:
    monkeypatch.setattr(class_tuning, "BATCH", 5)
    return Tuner(load_aural_sam2("compact")[0], frames, SETTINGS)


def test_a_frame_comes_with_its_mask_and_its_classes(frames: list[Masked]) -> None:
    assert len(frames) == 5
    for frame in frames:
        mask = frame.inputs[-1] > 0
        assert mask.shape == frame.labels.shape == (64, 64)
        present = sorted(int(label) for label in frame.labels.unique() if label)
        assert [SHAPES[label - 1] for label in present] == [
            name for name, on in zip(SHAPES, frame.sounding, strict=True) if on
        ]
        if present:
            overlap = (mask & (frame.labels > 0)).sum() / (mask | (frame.labels > 0)).sum()
            assert overlap > 0.5, "the network's mask lies on what the labels mark"
    assert any(frame.sounding.any() for frame in frames)


def test_the_head_learns_and_the_network_does_not(tuner: Tuner) -> None:
    network = {key: value.clone() for key, value in tuner.model.state_dict().items()}
    with torch.enable_grad():
        losses = [tuner.advance() for _ in range(SETTINGS.steps)]
    first, last = (np.mean([step["class"] for step in part]) for part in (losses[:3], losses[-3:]))
    assert last < 0.5 * first
    right = shared = 0
    for frame in tuner.frames:
        class_map, _ = tuner.head(*(each[None].float() for each in frame.inputs))
        both = (class_map[0] > 0) & (frame.labels > 0)
        right, shared = right + int((both & (class_map[0] == frame.labels)).sum()), shared + int(both.sum())
    assert right > 0.7 * shared > 0, "what is learned is the label itself"
    for key, value in tuner.model.state_dict().items():
        assert torch.equal(value, network[key]), key


def test_what_is_written_is_the_head_with_its_names(
    frames: list[Masked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_tuning, "BATCH", 2)

    def begin(model: object, settings: Settings, report: Report) -> Tuner:
        return Tuner(load_aural_sam2("compact")[0], frames, settings)

    settings = Settings(clips=1, steps=2)
    weights = shipped_weights("compact")
    assert weights is not None
    with torch.enable_grad():
        whole = teach(begin, tmp_path / "whole", settings, lambda line: None)
        assert teach(begin, tmp_path / "parts", settings, lambda line: None, 0.0) is None
        parts = teach(begin, tmp_path / "parts", settings, lambda line: None)
    assert whole is not None
    assert parts is not None
    head, names = read_head(str(whole), load_aural_sam2("compact")[0].preset, sha256_of(weights))
    assert names == SHAPES
    said = checkpoints.header(str(whole))
    assert set(said) == {"classes", "network_sha256", "classes_steps", "preset", "image_size", checkpoints.TRAINED_ON}
    again, _ = read_head(str(parts), load_aural_sam2("compact")[0].preset, sha256_of(weights))
    for key, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), f"{key}: a run that was stopped ends elsewhere"

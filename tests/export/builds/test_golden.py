"""The golden clip is the network's answer, and its tolerances forgive no wrong mask."""

from pathlib import Path

import numpy as np
import pytest

from auralsam2.network.readout import NO_OBJECT_LOGIT
from auralsam2.stages.clip_stages import Stage
from export.builds.golden import golden_tolerance


def test_the_golden_clip_is_the_networks_answer(small_build: Path, small_stages: tuple[Stage, ...]) -> None:
    with np.load(small_build / "golden.npz", allow_pickle=False) as golden:
        assert golden["FRAMES"].shape == (2, 224, 224, 3)
        assert golden["AUDIO"].shape == (2, 15600, 2)
        for spec in small_stages[-1].outputs:
            assert golden[spec.name].shape == spec.shape
            assert golden[spec.name].dtype == np.float32
            assert np.isfinite(golden[spec.name]).all()
            assert 0 < golden[f"TOLERANCE_{spec.name}"] < 0.5 * max(1.0, float(np.abs(golden[spec.name]).max()))


def test_the_golden_tolerance_does_not_count_empty_masks() -> None:
    """One empty frame of -1024 would make the spread, and with it the tolerance, hundreds of logits wide."""
    seen = np.random.default_rng(0).normal(0, 3, (1, 8, 8)).astype(np.float32)
    with_empty = np.concatenate([seen, np.full((1, 8, 8), NO_OBJECT_LOGIT, np.float32)])
    alone = golden_tolerance(seen, seen)
    assert golden_tolerance(with_empty, with_empty) == alone
    assert alone == pytest.approx(0.02 * seen.std())


def test_the_golden_tolerance_is_positive_where_every_mask_is_empty() -> None:
    empty = np.full((2, 4, 4), NO_OBJECT_LOGIT, np.float32)
    assert 0 < golden_tolerance(empty, empty) < 1


@pytest.mark.parametrize(("score", "tolerance"), [(5.0, 0.01), (-5.0, 0.01), (0.0, 0.02)])
def test_one_value_that_was_met_exactly_has_a_tolerance(score: float, tolerance: float) -> None:
    """The object score of a clip of one frame: its spread is 0, and a build with a tolerance of 0 is not served."""
    one = np.full(1, score, np.float32)
    assert golden_tolerance(one, one) == pytest.approx(tolerance)


def test_the_golden_tolerance_grows_with_what_was_measured() -> None:
    seen = np.random.default_rng(0).normal(0, 3, (1, 8, 8)).astype(np.float32)
    assert golden_tolerance(seen, seen + np.float32(0.5)) == pytest.approx(5.0, rel=1e-5)

"""The weights that come with the project: small enough, whole, and good at what they were trained for.

The full figures, on 200 clips a split, stand in their model card; here is enough to see that these are those weights.
"""

from collections.abc import Callable
from functools import cache

import pytest

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.data.world import Split
from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.evaluation.predictions import Sound, with_sound
from auralsam2.evaluation.scoring import Score, evaluate
from auralsam2.loading import load_network
from auralsam2.shipped import shipped_weights

CLIPS = 100
MAX_BYTES = 25_000_000

Scorer = Callable[[Split, Sound], Score]


@pytest.fixture(scope="module")
def score() -> Scorer:
    """What the shipped weights score; each split with each sound is evaluated once."""
    predict = network_predictor(load_network("compact")[0])

    @cache
    def scored(split: Split, sound: Sound) -> Score:
        # Another seed than the model card's: nobody has looked at these clips.
        return evaluate(split, with_sound(read_split(split, CLIPS, seed=77), sound), predict).scores["iou_occlusion"]

    return scored


def test_the_file_is_whole_and_small() -> None:
    path = shipped_weights("compact")
    assert path is not None
    assert path.stat().st_size <= MAX_BYTES
    state = checkpoints.read(str(path))
    assert checkpoints.is_whole(state)
    AuralSAM2.from_preset("compact").load_released(state)
    assert path.with_name("README.md").is_file(), "its model card"
    assert shipped_weights("hiera_large") is None


@pytest.mark.parametrize(("split", "least"), [("single", 0.80), ("multi", 0.70), ("unseen", 0.60)])
def test_it_finds_what_sounds(score: Scorer, split: Split, least: float) -> None:
    found = score(split, "own")
    assert found.mean_jaccard >= least
    assert found.mean_f_score is not None
    assert found.mean_f_score >= least


def test_it_hears(score: Scorer) -> None:
    own, other, silent = (score("multi", sound) for sound in ("own", "other", "silent"))
    assert other.mean_jaccard <= own.mean_jaccard - 0.25
    assert silent.empty_share >= 0.9

import itertools
from dataclasses import asdict, replace
from typing import Any

import pytest

from auralsam2.errors import NetworkError, TrainingError
from auralsam2.training.recipes import settings_for
from auralsam2.training.settings import TrainSettings, share_pretraining


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"preset": "huge"}, NetworkError, "'huge' is unknown"),
        ({"image_size": 300}, NetworkError, "300 px"),
        ({"steps": 0}, TrainingError, "steps 0; must be at least 1"),
        ({"workers": 0}, TrainingError, "workers 0"),
        ({"num_frames": 17}, TrainingError, "num_frames 17; a clip holds 1 to 16"),
        ({"clips_per_step": 3}, TrainingError, "clips_per_step 3 cannot be shared evenly by 2 workers"),
        ({"learning_rate": 2.0}, TrainingError, r"learning_rate 2\.0"),
        ({"recipe": "mine"}, TrainingError, "recipe 'mine' is unknown; choose one of released, paper, project"),
        ({"conditioning": "last"}, TrainingError, "conditioning 'last' is unknown; choose one of first, middle"),
        ({"iou_error": "cubic"}, TrainingError, "iou_error 'cubic'"),
        ({"dropout": 1.0}, TrainingError, r"dropout 1\.0; must be at least 0 and below 1"),
        ({"jitter": -0.1}, TrainingError, r"jitter -0\.1; must be at least 0 and at most 1"),
        ({"audio_contrast_samples": 3}, TrainingError, "audio_contrast_samples 3; must be at least 4"),
        ({"audio_contrast_sampling": "released"}, TrainingError, "goes with audio_contrast_form 'clip' only"),
        ({"device": "gpu"}, TrainingError, "device 'gpu' is unknown; choose one of cpu, cuda"),
        ({"device": "cuda"}, TrainingError, "workers 2 on device cuda; one process has the card. Take workers 1"),
        ({"precision": "float16"}, TrainingError, "precision 'float16' is unknown; choose one of bfloat16, float32"),
        ({"pretraining_sound_steps": -1}, TrainingError, "pretraining_sound_steps -1; must be at least 0"),
        ({"batch_norm": "clip"}, TrainingError, r"short_steps_share 0\.5\): one sound has no statistics"),
        ({"batch_norm": "clip", "short_steps_share": 0, "num_frames": 1}, TrainingError, "Take 2 frames or more"),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TrainSettings(**values)


def test_the_rate_warms_up_and_decays_polynomially() -> None:
    settings = TrainSettings(steps=1000, warmup_steps=99, learning_rate=1e-3)
    rates = [settings.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[49] == pytest.approx(0.5e-3 * (1 - 49 / 1000) ** 0.9)
    assert rates[500] == pytest.approx(1e-3 * 0.5**0.9)
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))
    assert 0 < rates[-1] < 3e-6


def test_sam2_and_vggish_learn_where_nothing_is_pretrained_or_where_it_is_asked_for() -> None:
    assert TrainSettings().sam2_learns
    assert TrainSettings().vggish_learns
    assert not TrainSettings(preset="hiera_tiny").sam2_learns
    assert not TrainSettings(preset="hiera_tiny").vggish_learns
    assert TrainSettings(preset="hiera_tiny", train_vggish=True).vggish_learns
    assert not TrainSettings(train_sam2=False).sam2_learns


def test_the_conditioning_frame_is_the_first_or_the_middle_one() -> None:
    first, middle = TrainSettings(), TrainSettings(conditioning="middle")
    assert [first.conditioning_frame(n) for n in (1, 5, 10)] == [0, 0, 0]
    assert [middle.conditioning_frame(n) for n in (1, 5, 10)] == [0, 2, 5]


def test_differences_are_told_in_words() -> None:
    settings = TrainSettings()
    assert settings.differences(asdict(settings)) == []
    assert settings.differences(asdict(replace(settings, seed=3, audio=False))) == [
        "seed 3, now 0",
        "audio False, now True",
    ]


@pytest.mark.parametrize(
    ("steps", "pretraining"),
    [(2400, (800, 150)), (24000, (800, 150)), (1200, (400, 75)), (20, (7, 1)), (1, (1, 1))],
)
def test_the_pretraining_is_as_long_as_the_schedule_asks_for(steps: int, pretraining: tuple[int, int]) -> None:
    """The shipped weights' command has 2400 steps, and 800 and 150 before them."""
    assert TrainSettings(steps=steps).pretraining_steps == pretraining


def test_a_given_pretraining_is_what_is_done() -> None:
    assert TrainSettings(steps=20, pretraining_image_steps=0).pretraining_steps == (0, 1)
    assert share_pretraining(950) == {"pretraining_image_steps": 800, "pretraining_sound_steps": 150}
    assert share_pretraining(2) == {"pretraining_image_steps": 1, "pretraining_sound_steps": 1}
    for steps in (0, 1, 2, 19, 1000):
        assert sum(share_pretraining(steps).values()) == steps


def test_a_card_rounds_and_a_cpu_does_not_unless_it_is_asked_for() -> None:
    assert TrainSettings().forward_precision == "float32"
    assert TrainSettings(precision="bfloat16").forward_precision == "bfloat16"
    for recipe in ("released", "project"):
        on_card = settings_for(recipe, device="cuda")
        assert (on_card.workers, on_card.forward_precision) == (1, "bfloat16")
    assert settings_for("project", device="cuda", precision="float32").forward_precision == "float32"


def test_a_checkpoint_from_before_a_setting_had_its_default() -> None:
    before = asdict(TrainSettings())
    del before["device"], before["precision"]
    assert TrainSettings().differences(before) == []
    assert TrainSettings(precision="bfloat16").differences(before) == ["precision 'float32', now 'bfloat16'"]

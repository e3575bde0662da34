"""Each line in which the recipes differ, value by value; that each value acts is tested beside what reads it."""

import re
from pathlib import Path
from typing import Any

import pytest

from auralsam2.errors import TrainingError
from auralsam2.training.recipes import RECIPES, changes, describe_recipe, settings_for, values_of
from auralsam2.training.settings import TrainSettings

# Released, paper, project.
TABLE: dict[str, tuple[Any, Any, Any]] = {
    "fuser_start": ("released", "released", "project"),
    "conditioning": ("middle", "middle", "first"),
    "train_sam2": (False, False, None),
    "train_vggish": (False, False, None),
    "dropout": (0.1, 0.1, 0.0),
    "batch_norm": ("clip", "clip", "running"),
    "iou_error": ("absolute", "absolute", "squared"),
    "frame_losses": ("sum", "sum", "mean"),
    "audio_contrast_form": ("clip", "clip", "frame"),
    "audio_contrast_sampling": ("released", "balanced", "balanced"),
    "audio_contrast_samples": (128, 512, 512),
    "learning_rate": (1e-4, 1e-4, 2e-4),
    "weight_decay": (0.05, 0.01, 0.01),
    "decay_norms": (False, False, True),
    "warmup_steps": (0, 0, 100),
    "max_gradient_norm": (None, None, 1.0),
    "short_steps_share": (0.0, 0.0, 0.5),
    "jitter": (0.0, 0.2, 0.2),
    "greyscale_share": (0.05, 0.1, 0.1),
    "max_rotation_degrees": (25.0, 0.0, 0.0),
    "max_shear_degrees": (20.0, 0.0, 0.0),
    "resampler": ("resampy", "resampy", "soxr"),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_recipes_say_what_the_table_says(name: str) -> None:
    assert tuple(RECIPES[recipe][name] for recipe in ("released", "paper", "project")) == TABLE[name]


def test_the_table_is_whole() -> None:
    assert {name for values in RECIPES.values() for name in values} == set(TABLE)


def test_the_documents_table_is_the_same(repository_root: Path) -> None:
    text = (repository_root / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", text, re.MULTILINE)
    assert {name: cells for name, *cells in rows} == {name: [*map(str, row)] for name, row in TABLE.items()}


@pytest.mark.parametrize("path", ["Makefile", "README.md", "auralsam2/weights/README.md", "docs/training.md"])
def test_the_command_that_made_the_shipped_weights_names_its_recipe(repository_root: Path, path: str) -> None:
    text = (repository_root / path).read_text()
    commands = re.findall(r"auralsam2 train .*runs/compact", text)
    assert commands
    assert all("--recipe project" in command for command in commands)


def test_the_released_ref_avs_scripts_differ_in_rate_and_samples() -> None:
    avsbench, ref_avs = values_of("released"), values_of("released", ref_avs=True)
    assert {n: v for n, v in ref_avs.items() if v != avsbench[n]} == {
        "learning_rate": 5e-4,
        "audio_contrast_samples": 64,
    }


def test_the_rate_falls_by_the_power_0_9_in_all() -> None:
    for recipe in RECIPES:
        assert settings_for(recipe).decay_power == 0.9


def test_the_projects_recipe_is_what_settings_are_by_default() -> None:
    assert settings_for("project") == TrainSettings()


def test_a_released_run_starts_at_its_full_rate() -> None:
    assert settings_for("released").rate(0) == 1e-4
    assert settings_for("project").rate(0) == pytest.approx(2e-4 / 101)


def test_a_single_option_goes_before_the_recipe_and_is_told() -> None:
    settings = settings_for("released", weight_decay=0.2, steps=7)
    assert settings.weight_decay == 0.2
    assert settings.dropout == 0.1
    assert changes(settings) == {"weight_decay": 0.2}
    assert describe_recipe(settings) == {"recipe": "released", "recipe_changes": "weight_decay 0.2"}
    assert describe_recipe(settings_for("paper")) == {"recipe": "paper"}


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(TrainingError, match="recipe 'mine' is unknown; choose one of released, paper, project"):
        settings_for("mine")

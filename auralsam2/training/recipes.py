"""The recipes by name: what the released scripts do, what the paper says where they differ, what this project does.

Source: AuralSAM2's released training scripts, their configurations and losses; the paper's supplementary material.
`project` made the shipped `compact` weights: its values are the defaults of `TrainSettings`. The others train the fuser
on SAM2 and VGGish as they come, pretrained; from scratch they run, but what learns then reads an untrained decoder.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from auralsam2.errors import TrainingError
from auralsam2.training.settings import TrainSettings

_RELEASED: Mapping[str, Any] = {
    "short_steps_share": 0.0,
    "learning_rate": 1e-4,
    "train_sam2": False,
    "train_vggish": False,
    "warmup_steps": 0,
    "weight_decay": 0.05,
    "decay_norms": False,
    "max_gradient_norm": None,
    "fuser_start": "released",
    "conditioning": "middle",
    "dropout": 0.1,
    "batch_norm": "clip",
    "iou_error": "absolute",
    "frame_losses": "sum",
    "audio_contrast_form": "clip",
    "audio_contrast_sampling": "released",
    "audio_contrast_samples": 128,
    # The scripts list a colour jitter too, and drop what it gives.
    "jitter": 0.0,
    "greyscale_share": 0.05,
    "max_rotation_degrees": 25.0,
    "max_shear_degrees": 20.0,
    "resampler": "resampy",
}
_PAPER: Mapping[str, Any] = {
    **_RELEASED,
    "weight_decay": 0.01,
    "audio_contrast_sampling": "balanced",
    "audio_contrast_samples": 512,
    # The text names the jitter, not its size: the project's.
    "jitter": 0.2,
    "greyscale_share": 0.1,
    "max_rotation_degrees": 0.0,
    "max_shear_degrees": 0.0,
}
_DEFAULTS = {field.name: field.default for field in fields(TrainSettings)}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "released": _RELEASED,
    "paper": _PAPER,
    "project": {name: _DEFAULTS[name] for name in _RELEASED},
}
# What the released Ref-AVS scripts set otherwise than those of AVSBench.
_ON_REF_AVS: Mapping[str, Mapping[str, Any]] = {
    "released": {"learning_rate": 5e-4, "audio_contrast_samples": 64},
    "paper": {"learning_rate": 5e-4},
    "project": {},
}


def values_of(recipe: str, ref_avs: bool = False) -> dict[str, Any]:
    """Return the settings that a recipe decides. Raises TrainingError, which lists the recipes, for an unknown one."""
    if recipe not in RECIPES:
        raise TrainingError(f"recipe {recipe!r} is unknown; choose one of {', '.join(RECIPES)}.")
    return {**RECIPES[recipe], **(_ON_REF_AVS[recipe] if ref_avs else {})}


def settings_for(recipe: str, **given: Any) -> TrainSettings:
    """Build the settings of a run: what is given, and where nothing is, what the recipe says.

    On a card one process is the default, since one has the card.
    Raises: TrainingError or NetworkError as `TrainSettings` does, and for an unknown recipe.
    """
    if given.get("device") == "cuda":
        given = {"workers": 1, **given}
    return TrainSettings(**{**values_of(recipe), **given, "recipe": recipe})


def changes(settings: TrainSettings) -> dict[str, Any]:
    """Tell where a run's settings differ from what its recipe says."""
    said = values_of(settings.recipe)
    return {name: getattr(settings, name) for name, value in said.items() if getattr(settings, name) != value}


def describe_recipe(settings: TrainSettings) -> dict[str, str]:
    """Describe for a file of weights how they are made: `recipe` and, where values differ, `recipe_changes`."""
    changed = ", ".join(f"{name} {value}" for name, value in changes(settings).items())
    return {"recipe": settings.recipe, **({"recipe_changes": changed} if changed else {})}

"""What a step does by one recipe and not by another, on a network of stand-in weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.training.examples.clips import Example, procedural
from auralsam2.training.recipes import settings_for
from auralsam2.training.run import learner as learner_room
from auralsam2.training.run.learner import Learner
from auralsam2.training.start.starting import Weights
from tests.auralsam2.one_device import ELSEWHERE, OneDevice

SMALL: dict[str, Any] = {"image_size": 224, "num_frames": 3, "steps": 4, "clips_per_step": 1, "workers": 1}
PLAIN = settings_for("project", **SMALL)
RELEASED = settings_for("released", **SMALL)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    path = tmp_path_factory.mktemp("weights") / "compact.pth"
    torch.save(parity_state(AuralSAM2.from_preset("compact", 224), 51), path)
    return Weights(checkpoint=str(path))


@pytest.fixture(scope="module")
def example() -> Example:
    clips = (procedural(0, 224)(number, 3) for number in range(20))
    return next(clip for clip in clips if clip.masks.any((1, 2)).all())


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize(("settings", "wanted"), [(PLAIN, 0), (RELEASED, 1)], ids=["project", "released"])
def test_the_conditioning_frame_is_the_recipes(
    weights: Weights, example: Example, settings: Any, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(settings, weights)
    asked: list[int] = []
    inner = learner.model.forward_with_features

    def noting(*arguments: Any, conditioning_frame: int) -> Any:
        asked.append(conditioning_frame)
        return inner(*arguments, conditioning_frame=conditioning_frame)

    monkeypatch.setattr(learner.model, "forward_with_features", noting)
    with torch.no_grad():
        learner.clip_losses(example, 1)
    assert asked == [wanted]


def test_what_dropout_draws_depends_on_the_clips_number_alone(weights: Weights, example: Example) -> None:
    learner = Learner(replace(RELEASED, batch_norm="running", audio_contrast=False), weights)
    learner.accumulate([0], 1.0)
    with torch.no_grad():
        first = values(learner.clip_losses(example, 5))
        state = torch.random.get_rng_state()
        torch.rand(3)
        assert values(learner.clip_losses(example, 5)) == first
        assert values(learner.clip_losses(example, 6))["total"] != first["total"]
        torch.random.set_rng_state(state)


def test_of_frames_without_label_no_mask_counts(weights: Weights, example: Example) -> None:
    labelled = np.array([True, False, False])
    turned = example.masks.copy()
    turned[1:] = ~turned[1:]
    for settings in (PLAIN, RELEASED):
        learner = Learner(replace(settings, dropout=0.0, batch_norm="running"), weights)
        with torch.no_grad():
            one = values(learner.clip_losses(replace(example, labelled=labelled), 1))
            other = values(learner.clip_losses(replace(example, masks=turned, labelled=labelled), 1))
            whole = values(learner.clip_losses(example, 1))
        assert one == other
        assert one["total"] != whole["total"]
        assert one["focal"] > 0


def test_audiocon_is_added_to_sums_as_it_is_and_to_means_divided_by_the_frames(
    weights: Weights, example: Example
) -> None:
    for settings, share in ((PLAIN, 1 / 3), (RELEASED, 1.0)):
        with torch.no_grad():
            losses = values(Learner(settings, weights).clip_losses(example, 1))
        segmentation = 20 * losses["focal"] + losses["dice"] + losses["iou"] + losses["occlusion"]
        assert losses["audio_contrast"] > 0
        assert losses["total"] == pytest.approx(segmentation + share * losses["audio_contrast"], rel=1e-5)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_gradients_are_clipped_only_where_the_recipe_says_so(weights: Weights, limit: float | None) -> None:
    learner = Learner(replace(RELEASED, max_gradient_norm=limit), weights)
    (first, *_) = [p for p in learner.parameters if p.ndim > 1]
    for parameter in learner.parameters:
        parameter.grad = torch.zeros_like(parameter)
    first.grad = torch.full_like(first, 4.0)
    kept: list[Tensor] = []
    learner.optimiser.register_step_pre_hook(lambda *_: kept.append(first.grad.norm()))  # type: ignore[union-attr]
    norm = 4 * first.numel() ** 0.5
    assert learner.update() == pytest.approx(norm, rel=1e-4)
    assert kept[0].item() == pytest.approx(norm if limit is None else 0.5, rel=1e-4)


def test_the_fuser_trains_in_the_recipes_mode_from_the_first_step_on(weights: Weights) -> None:
    key = "fusion_modules.0.W_z.1.num_batches_tracked"
    released, project = (Learner(settings, weights) for settings in (RELEASED, PLAIN))
    for learner in (released, project):
        learner.accumulate([0], 1.0)
    assert released.model.aural_fuser.state_dict()[key] == 1
    assert project.model.aural_fuser.state_dict()[key] == 0
    assert released.statistics is None
    assert project.statistics is not None


def test_the_augmentation_is_the_recipes(weights: Weights) -> None:
    made = Learner(RELEASED, weights).augmentation
    assert (made.jitter, made.greyscale_share, made.max_rotation_degrees, made.max_shear_degrees) == (0, 0.05, 25, 20)


@pytest.mark.parametrize("recipe", ["released", "paper", "project"])
def test_every_recipe_trains_on_v1s(weights: Weights, folders: Any, tmp_path: Path, recipe: str) -> None:
    root = folders.write_avsbench(tmp_path, {"v1s": ["a"]}, split="train")
    for index in range(1, 5):
        (root / "v1s" / "a" / "labels_rgb" / f"{index}.png").unlink()
    learner = Learner(settings_for(recipe, **SMALL, data=str(root), subset="v1s", short_steps_share=0.0), weights)
    losses = learner.accumulate([0], 1.0)
    assert torch.isfinite(losses).all()
    assert (losses > 0).all(), "of the first frame, which shows an object"
    assert learner.update() > 0


@pytest.mark.parametrize("settings", [PLAIN, RELEASED], ids=["project", "released"])
def test_under_autocast_losses_and_weights_stay_float32(weights: Weights, settings: Any) -> None:
    """What a card does by default, here on the CPU: the same code, another device."""
    exact, rounded = (
        Learner(replace(settings, precision=precision, short_steps_share=0.0), weights)
        for precision in ("float32", "bfloat16")
    )
    wanted, found = exact.accumulate([0], 1.0), rounded.accumulate([0], 1.0)
    assert not torch.equal(found, wanted), "two computations, not one with two names"
    # A bfloat16 has 8 bits: a hundredth of what a loss is made of, some times over.
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.02)
    assert {value.dtype for value in rounded.model.state_dict().values()} <= {torch.float32, torch.int64}
    assert {p.grad.dtype for p in rounded.parameters if p.grad is not None} == {torch.float32}
    assert rounded.update() > 0


def test_on_another_device_nothing_is_left_on_the_host(
    weights: Weights, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device has no values, so no pixel can be drawn by what the network says: without AudioCon. What is proven is
    that every tensor of a step was moved there, weights, clips, masks and the optimiser's.
    """
    monkeypatch.setattr(learner_room, "open_device", lambda device: ELSEWHERE)
    # Autocast knows no such device, and changes no tensor's.
    monkeypatch.setattr(learner_room, "rounding", lambda device, precision: torch.autocast("cpu", enabled=False))
    learner = Learner(replace(PLAIN, audio_contrast=False), weights)
    with OneDevice() as watch:
        losses = learner.clip_losses(example, 1)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters, 1.0)
        learner.optimiser.step()
    assert watch.num_operators > 5000
    assert {value.device for value in losses.values()} == {ELSEWHERE}
    with OneDevice(), pytest.raises(AssertionError, match="meets"):
        learner.contrast.visual_head(torch.zeros(2, 128))

"""Training on a card: a step's losses against those of the CPU, and a run that stops, goes on and is judged there."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from auralsam2.computing import PRECISIONS, Precision, choose_device
from auralsam2.data.samples import Sample
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.model.loading import load_network
from auralsam2.training.examples.clips import procedural
from auralsam2.training.recipes import settings_for
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.trainer import train
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights
from loadtests.gpu.checks.check import Check, LeftOutError, Place

SIZE = 224
SMALL: dict[str, Any] = {"image_size": SIZE, "num_frames": 2, "steps": 2, "clips_per_step": 1, "workers": 1}
TOLERANCE: dict[Precision, float] = {"float32": 0.02, "bfloat16": 0.1}
"""Of a step's losses, as a share. float32 is TF32 in convolutions on a card, 10 bits; a bfloat16 has 8."""
LEAST_DIFFERENCE = 0.02


def training_checks() -> list[Check]:
    """List the checks of training and of evaluation in process."""
    return [
        *(
            Check(f"{recipe}, {precision}: a step's losses", "training", partial(_agrees, recipe, precision))
            for recipe in ("project", "released")
            for precision in PRECISIONS
        ),
        Check("a run stops, goes on and is judged", "training", _goes_on),
    ]


def _settings(recipe: str, **given: Any) -> TrainSettings:
    # Dropout draws other numbers on another device.
    return settings_for(recipe, **SMALL, dropout=0.0, **given)


@torch.enable_grad()
def _agrees(recipe: str, precision: Precision, place: Place) -> None:
    there = choose_device(place.device)
    wanted, found = (
        Learner(_settings(recipe, device=device, precision=own), Weights()).accumulate([0], 1.0)
        for device, own in (("cpu", "float32"), (there, precision))
    )
    distance = (found - wanted).abs() - TOLERANCE[precision] * wanted.abs()
    assert bool((distance < LEAST_DIFFERENCE).all()), f"losses {found.tolist()}, on the CPU {wanted.tolist()}"


@torch.enable_grad()
def _goes_on(place: Place) -> None:
    if find_spec("tensorboard") is None:
        raise LeftOutError("the log of a run needs the package 'tensorboard'")
    there = choose_device(place.device)
    settings = _settings("project", device=there, pretraining_image_steps=1, pretraining_sound_steps=1)
    place.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.folder) as temporary:
        folder = Path(temporary)
        train(settings, folder, stop_at=1)
        steps = list[int]()
        weights = train(settings, folder, report=lambda progress: steps.append(progress.step))
        assert steps == [2], f"steps {steps} after a stop at step 1"
        clip = procedural(0, SIZE)(0, 2)
        sample = Sample("clip", clip.frames, clip.windows, clip.masks, None)
        network = load_network("compact", SIZE, str(weights))[0]
        answer = network_predictor(network, precision=settings.forward_precision, device=there)(sample)
    assert np.isfinite(answer.candidates).all(), "the weights of two steps answer with values that are not finite"
    assert torch.from_numpy(answer.iou).shape == (2, 3)

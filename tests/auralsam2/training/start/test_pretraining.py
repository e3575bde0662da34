"""Pretraining: losses that fall, what moves, and the same weights whether or not it was stopped."""

import numpy as np
import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.training.start import pretraining
from auralsam2.training.start.pretraining import Pretraining, Schedule
from tests.auralsam2.one_device import ELSEWHERE, OneDevice

SHORT = Schedule(2, 2, frames_per_step=2, clips_per_step=1)


def model() -> AuralSAM2:
    torch.manual_seed(0)
    return AuralSAM2.from_preset("compact", 224)


def learn(phase: Pretraining, steps: int | None = None) -> list[float]:
    """Take so many steps, or all that are left; their losses."""
    losses = list[float]()
    with phase.unfreeze():
        while not phase.done and len(losses) != steps:
            losses.append(phase.accumulate().item())
            phase.update()
    return losses


def test_vggish_learns_timbres_within_some_dozen_steps() -> None:
    losses = learn(Pretraining(model(), 0, Schedule(0, 40, clips_per_step=4, warmup_steps=5)))
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_the_image_encoder_learns_and_nothing_else_moves() -> None:
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses = learn(Pretraining(network, 0, Schedule(12, 0, frames_per_step=6, warmup_steps=2)))
    assert np.mean(losses[-3:]) < np.mean(losses[:2])
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("v_model.image_encoder.") for name in moved)


def test_stopped_after_each_step_it_goes_on_to_the_same_weights() -> None:
    straight = Pretraining(model(), 3, SHORT)
    wanted = learn(straight)
    found, stops = list[float](), list[tuple[str, int]]()
    parts = Pretraining(model(), 3, SHORT)
    while not parts.done:
        state = parts.state()
        network = model()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        parts = Pretraining(network, 3, SHORT)
        parts.restore(state)
        stops.append((parts.lesson, parts.lesson_step))
        found += learn(parts, 1)
    assert stops == [("sounds", 0), ("sounds", 1), ("pictures", 0), ("pictures", 1)]
    assert found == wanted
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name


def test_an_encoder_that_the_run_keeps_frozen_learns_here_and_stays_frozen_after() -> None:
    network = model()
    parts = (network.v_model.image_encoder, network.aural_fuser.vgg)
    for part in parts:
        part.requires_grad_(False)
    before = [[p.clone() for p in part.parameters()] for part in parts]
    learn(Pretraining(network, 0, Schedule(1, 1, frames_per_step=2, clips_per_step=1)))
    for part, values in zip(parts, before, strict=True):
        assert any(not torch.equal(p, value) for p, value in zip(part.parameters(), values, strict=True))
        assert not any(p.requires_grad for p in part.parameters())
        assert all(p.grad is None for p in part.parameters()), "the run's first step starts without gradients"


def test_on_another_device_nothing_is_left_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has no values: what is proven is that every tensor of a step was moved there."""
    # Autocast knows no such device, and changes no tensor's.
    monkeypatch.setattr(pretraining, "rounding", lambda device, precision: torch.autocast("cpu", enabled=False))
    network = model()
    phase = Pretraining(network.to(ELSEWHERE), 0, SHORT)
    with OneDevice() as watch, phase.unfreeze():
        for _ in range(SHORT.steps):
            phase.accumulate()
            phase.update()
    assert watch.num_operators > 1000

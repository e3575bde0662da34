"""Batch norm that follows what passes: the mean and variance of a step's clips, pooled, and nothing else."""

import pytest
import torch
from torch import Tensor

from auralsam2.network.aural_fuser import AuralFuser
from auralsam2.presets import preset
from auralsam2.training.run.running_statistics import MOMENTUM, RunningStatistics


@pytest.fixture
def fuser() -> AuralFuser:
    torch.manual_seed(0)
    return AuralFuser(preset("compact"), 224, text=False, form="released").eval()


def run(fuser: AuralFuser, num_frames: int, scale: float = 1.0) -> Tensor:
    """Run the fuser on noise; what reached the first stage's audio batch norm, [M, C]."""
    seen: list[Tensor] = []
    norm = fuser.fusion_modules[0].get_submodule("W_z2.1")
    hook = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()[..., 0]))
    patches = tuple(scale * torch.randn(num_frames, 128, 14, 14) for _ in range(3))
    fuser(patches, torch.randn(num_frames, 128))  # type: ignore[arg-type]
    hook.remove()
    return seen[0]


def test_they_move_towards_the_pooled_statistics_of_all_clips_of_a_step(fuser: AuralFuser) -> None:
    statistics = RunningStatistics(fuser)
    passed = torch.cat([run(fuser, 3), run(fuser, 1), run(fuser, 2)])
    statistics.update()
    norm = fuser.fusion_modules[0].get_submodule("W_z2.1")
    torch.testing.assert_close(norm.running_mean, MOMENTUM * passed.mean(0))
    torch.testing.assert_close(norm.running_var, 1 - MOMENTUM + MOMENTUM * passed.var(0, correction=0))


def test_without_passage_nothing_moves(fuser: AuralFuser) -> None:
    statistics = RunningStatistics(fuser)
    run(fuser, 2)
    statistics.update()
    before = {name: value.clone() for name, value in fuser.named_buffers()}
    statistics.update()
    with torch.no_grad():  # evaluation between steps is not watched
        run(fuser, 2)
    statistics.update()
    run(fuser, 2)
    statistics.discard()
    statistics.update()
    assert all(torch.equal(value, before[name]) for name, value in fuser.named_buffers())


def test_what_the_fusion_adds_is_brought_to_unit_size_however_large_it_was(fuser: AuralFuser) -> None:
    """The cube of a scale of ten is a thousand; without this a run explodes."""
    statistics = RunningStatistics(fuser)
    for _ in range(60):
        run(fuser, 3, scale=10)
        statistics.update()
    sizes: list[float] = []
    for module in fuser.fusion_modules:
        module.get_submodule("W_z").register_forward_hook(lambda m, i, out: sizes.append(float(out.detach().std())))
    run(fuser, 3, scale=10)
    assert len(sizes) == 3
    assert all(0.2 < size < 5 for size in sizes), sizes

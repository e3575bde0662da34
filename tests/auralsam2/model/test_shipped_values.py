"""Every number in the weight files that come with the project is finite, and far from the end of its type."""

from collections.abc import Callable
from importlib import resources
from itertools import starmap

import pytest
import torch
from torch import Tensor, nn

from auralsam2 import checkpoints
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.shipped import SHIPPED, shipped_class_head, shipped_weights
from auralsam2.training.after.statistics_repair import encode
from auralsam2.training.examples.clips import procedural

MAX_SHARE_OF_RANGE = 0.25
NUM_CLIPS = 12


FILES = [
    path
    for path in (*starmap(shipped_weights, SHIPPED), *(shipped_class_head(preset) for preset, _ in SHIPPED[:1]))
    if path is not None
]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def state(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    return checkpoints.read(str(request.param))


def test_every_file_of_weights_in_the_package_is_walked() -> None:
    folder = resources.files("auralsam2") / "weights"
    held = {file.name for file in folder.iterdir() if file.name.endswith((".pth", ".pt", ".safetensors"))}
    assert held == {path.name for path in FILES}


def test_every_value_is_finite_and_far_from_overflow(state: dict[str, Tensor]) -> None:
    for key, value in state.items():
        if not value.is_floating_point():
            continue
        assert value.isfinite().all(), key
        assert value.abs().max() <= MAX_SHARE_OF_RANGE * torch.finfo(value.dtype).max, key
        assert (value > 0).all() or not key.endswith("running_var"), key


def test_each_batch_norm_of_the_fusion_brings_what_it_reads_to_unit_size() -> None:
    """Before its scale and shift. A channel whose variance is infinite, or another network's, would show."""
    model = load_aural_sam2("compact")[0]
    sizes: dict[str, list[Tensor]] = {}
    for name, norm in model.aural_fuser.fusion_modules.named_modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm3d):
            norm.register_forward_pre_hook(_squares(sizes.setdefault(name, [])))
    # Not the clips that statistics were estimated from: those are of seed 0.
    for clip in encode(model, procedural(5, model.image_size), NUM_CLIPS):
        model.aural_fuser(clip.patches, clip.tokens)
    assert len(sizes) == 6
    for name, parts in sizes.items():
        size = torch.cat(parts, 1).mean(1).sqrt()
        assert 0.3 < float(size.min()) <= float(size.max()) < 3, name


def _squares(found: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm3d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        values = inputs[0].transpose(0, 1).flatten(1)
        found.append((values - norm.running_mean[:, None]).square() / norm.running_var[:, None])

    return add

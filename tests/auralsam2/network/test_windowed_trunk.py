"""The trunk in the order of its windows against the trunk of the sam2 package, on the same weights."""

import math

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.network import image_encoder, windowed_trunk
from auralsam2.network.windowed_trunk import WindowOrder, num_apart, plan, windowed_features
from kernels.counting import count_operators

Made = tuple[Hiera, Tensor, Tensor]


def made(name: str, image_size: int, num_frames: int = 1) -> Made:
    """Trunk, normalised frames, position embedding."""
    model = AuralSAM2.from_preset(name, image_size)
    model.load_released(parity_state(model, 51))
    trunk = model.v_model.image_encoder.trunk
    draw = torch.Generator().manual_seed(7)
    frames = torch.randn(num_frames, 3, image_size, image_size, generator=draw)
    return trunk, frames, image_encoder.position_embedding(trunk, image_size).detach()


def errors(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    assert [each.shape for each in found] == [each.shape for each in wanted]
    return [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(found, wanted, strict=True)]


@pytest.mark.parametrize(
    ("name", "image_size", "num_frames", "strips"),
    [
        ("compact", 256, 2, 1),  # no window is cut
        ("compact", 224, 2, 3),  # 49 windows in three parts
        ("hiera_tiny", 256, 1, 2),  # 16 = 14 + 2: cut on three sides, six of seven tokens padded
        ("hiera_tiny", 512, 1, 4),  # 32 = 2 x 14 + 4
    ],
)
def test_features_are_those_of_sam2(name: str, image_size: int, num_frames: int, strips: int) -> None:
    trunk, frames, position = made(name, image_size, num_frames)
    with torch.inference_mode():
        wanted = image_encoder.trunk_features(trunk, frames, position)
        found = image_encoder.trunk_features(trunk, frames, position, windowed=True, strips=strips)
    assert max(errors(found, wanted)) < 1e-6


def test_padding_weighs_as_many_keys_as_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """One padded key too few in a window shows: the comparison above can fail."""
    trunk, frames, position = made("hiera_tiny", 256)
    monkeypatch.setattr(windowed_trunk.math, "log", lambda count: math.log1p(count - 2))
    with torch.inference_mode():
        wanted = image_encoder.trunk_features(trunk, frames, position)
        assert max(errors(windowed_features(trunk, frames, position), wanted)) > 1e-4


@pytest.mark.parametrize(("side", "window"), [(16, 14), (32, 14), (64, 14), (64, 8), (7, 7), (8, 14)])
def test_an_order_holds_every_token_once(side: int, window: int) -> None:
    order = WindowOrder(side, window)
    rows = torch.arange(2 * side * side).reshape(2, side, side, 1)
    placed = order.of_map(rows)
    assert torch.equal(order.to_map(placed), rows)
    indices = placed[0, :, 0]
    assert indices.sort().values.tolist() == list(range(side * side))
    assert sum(group.count * group.tokens for group in order.groups) == side * side
    padded = sum(group.count * (group.tokens + group.padding) for group in order.groups)
    assert padded == (math.ceil(side / window) * window) ** 2
    # The first window is a square of the map's corner, or all that there is of it.
    first = order.groups[0]
    rows, columns = indices[: first.tokens] // side, indices[: first.tokens] % side
    assert (int(rows.max()), int(columns.max())) == (first.height - 1, first.width - 1)


def test_leading_blocks_that_know_nothing_of_other_windows() -> None:
    trunk = AuralSAM2.from_preset("hiera_base_plus", 1024).v_model.image_encoder.trunk
    # Two blocks of stage 1, three of stage 2, and the one that pools into stage 3.
    assert num_apart(plan(trunk, 256)) == 6


@pytest.mark.parametrize(("image_size", "saved"), [(512, 0.14), (1024, 0.03)])
def test_padding_is_arithmetic_saved(image_size: int, saved: float) -> None:
    model = AuralSAM2.from_preset("hiera_base_plus", image_size)
    trunk = model.v_model.image_encoder.trunk.to("meta")
    frames = torch.zeros(1, 3, image_size, image_size, device="meta")
    position = torch.zeros(1, image_size // 4, image_size // 4, model.preset.embed_dim, device="meta")
    before = count_operators(image_encoder.trunk_features, trunk, frames, position).flop
    after = count_operators(windowed_features, trunk, frames, position).flop
    assert 1 - after / before > saved

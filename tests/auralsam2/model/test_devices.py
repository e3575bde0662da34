"""The network on a card: nothing of it is on the host, so that a clip can be captured as one CUDA graph.

Every form runs on the stand-in card of `tests.captured.stand_in_card`, in float16 where it has that. Kernels are left
to their own tests: here each fused operator is one node.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.model.published import Published
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import fold_values
from auralsam2.network.precision import to_precision
from auralsam2.prompted.prompts import FramePrompt
from tests.captured.stand_in_card import faults_of, move_to_card, on_card

T, S = 3, 224
FRAMES, LOG_MEL, TEXT = (T, 3, S, S), (T, 2, 96, 64), (1, 4, 128)


def card_network(dtype: torch.dtype, text: bool = False) -> AuralSAM2:
    network = AuralSAM2.from_preset("compact", S, text=text)
    if dtype != torch.float32:
        network.fuse()
    fold_values(network.v_model)
    move_to_card(to_precision(network, dtype))
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("text", [False, True])
def test_a_clip_by_sound(dtype: torch.dtype, text: bool) -> None:
    network = card_network(dtype, text)
    inputs = [on_card(FRAMES), on_card(LOG_MEL), on_card(TEXT)][: 3 if text else 2]
    assert faults_of(network, *inputs) == []


@pytest.mark.parametrize("prompt", ["points", "mask", "both", "round"])
def test_a_clip_by_prompts(prompt: str) -> None:
    network = card_network(torch.float16)
    points = 0 if prompt == "mask" else 2
    side = S // 4
    given = FramePrompt(
        1,
        on_card((points, 2)),
        on_card((points,)),
        on_card((side, side)) if prompt in ("mask", "both") else None,
        on_card((side, side)) if prompt == "round" else None,
    )

    def track() -> None:
        clip = network.track_prompts(network.image_features(on_card(FRAMES)), [given])
        assert {answer.dtype for answer in clip} == {torch.float32}

    assert faults_of(track) == []


def test_the_published_form() -> None:
    network = move_to_card(AuralSAM2.from_preset("compact", S))
    assert isinstance(network, AuralSAM2)
    assert faults_of(Published(network), on_card((T, S, S, 3), torch.uint8), on_card((T, 15600, 2))) == []


@pytest.mark.parametrize("windowed", [False, True])
def test_both_forms_of_the_trunk(windowed: bool) -> None:
    """At 256 px windows of 14 are cut by the border, so that padded keys are masked."""
    network = AuralSAM2.from_preset("hiera_tiny", 256)
    trunk = move_to_card(to_precision(network.v_model.image_encoder.trunk, torch.float16))

    def features() -> None:
        frames = image_encoder.normalise(on_card((1, 256, 256, 3), torch.uint8))
        position = image_encoder.position_embedding(trunk, 256)
        maps = image_encoder.trunk_features(trunk, frames, position, windowed=windowed)
        assert {each.dtype for each in maps} == {torch.float16}

    assert faults_of(features) == []


class OfNumbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0, 2.0], device=x.device)


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, torch.zeros(()))


class Moved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(2).to(x.device)


@pytest.mark.parametrize(
    ("module", "named"), [(OfNumbers(), "torch.tensor"), (Scalar(), "aten::where"), (Moved(), "aten::arange")]
)
def test_a_tensor_of_the_host_is_named(module: nn.Module, named: str) -> None:
    assert [fault for fault in faults_of(module, on_card((2,))) if named in fault]


def test_a_module_left_on_the_host_is_named() -> None:
    assert [fault for fault in faults_of(LogMel(), on_card((1, 15600, 2))) if "log_mel.py" in fault]


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: bool((x > 0).any()), lambda x: x.cpu()])
def test_a_number_that_is_read_back_has_no_value(read: Callable[[Tensor], Any]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        faults_of(read, on_card((2,)))

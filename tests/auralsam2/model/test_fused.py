"""The switch to the fused operators: what runs, what it equals, and what it refuses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.network.fusion import AudioVisualFusion, FusedAudioVisualFusion, FusionForm

NUM_FRAMES, IMAGE_SIZE = 2, 224


class Called(TorchDispatchMode):
    """Counts the operators of our own namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.namespace == "auralsam2":
            self.counts[func.name()] = self.counts.get(func.name(), 0) + 1
        return func(*args, **(kwargs or {}))


def clip() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return (
        torch.randn(NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE, generator=draw),
        torch.randn(NUM_FRAMES, 2, 96, 64, generator=draw),
    )


@pytest.fixture(scope="module", params=["released", "paper"])
def pair(request: pytest.FixtureRequest, well_scaled: Callable[[nn.Module, int], nn.Module]) -> list[AuralSAM2]:
    """The same weights, plain and fused."""
    networks = []
    for fused in (False, True):
        network = AuralSAM2.from_preset("compact", IMAGE_SIZE, fusion=request.param)
        well_scaled(network, 5)
        networks.append(network.fuse() if fused else network)
    return networks


def test_fused_equals_plain(pair: list[AuralSAM2]) -> None:
    plain, fused = (network(*clip()) for network in pair)
    for name in ("low_res_logits", "iou", "object_score", "object_pointer"):
        torch.testing.assert_close(getattr(fused, name), getattr(plain, name), rtol=0, atol=2e-4)


def test_every_fused_operator_runs_as_often_as_the_network_has_it(pair: list[AuralSAM2]) -> None:
    """Three fusions; a depth-wise convolution a visual block; memory is read in every layer of every later frame."""
    preset = pair[1].preset
    with Called() as called:
        pair[1](*clip())
    assert called.counts == {
        "auralsam2::audio_visual_fusion": 3,
        "auralsam2::depthwise_gelu": sum(preset.fuser_depths),
        "auralsam2::memory_attention": preset.memory_layers * (NUM_FRAMES - 1),
    }
    with Called() as called:
        pair[0](*clip())
    assert called.counts == {}


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize(("num_frames", "side", "num_tokens"), [(3, 16, 3), (4, 14, 29)])
def test_folded_weights_are_exact(
    form: FusionForm, num_frames: int, side: int, num_tokens: int, well_scaled: Callable[[nn.Module, int], nn.Module]
) -> None:
    module = AudioVisualFusion(256, 128, form).eval()
    well_scaled(module, 0)
    module.double()
    fused = FusedAudioVisualFusion(module)
    draw = torch.Generator().manual_seed(1)
    visual = torch.randn(num_frames, side**2, 256, generator=draw, dtype=torch.float64)
    audio = torch.randn(num_tokens, 256, generator=draw, dtype=torch.float64)
    for ours, theirs in zip(fused(visual, audio, side), module(visual, audio, side), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_export_sees_one_node_a_fusion(pair: list[AuralSAM2]) -> None:
    module = pair[1].aural_fuser.fusion_modules[0]
    width, side = pair[1].preset.width, IMAGE_SIZE // 16

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion = module

        def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
            frame, sound = self.fusion(visual, audio, side)
            return frame, sound

    program = torch.export.export(Stage(), (torch.zeros(2, side**2, width), torch.zeros(2, width)))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called.count("auralsam2.audio_visual_fusion.default") == 1
    assert not [name for name in called if "aten" in name]


def test_fusing_twice_changes_nothing_and_loading_afterwards_is_refused() -> None:
    network = AuralSAM2.from_preset("compact", IMAGE_SIZE)
    state = network.state_dict()
    modules = list(network.fuse().aural_fuser.fusion_modules)
    assert list(network.fuse().aural_fuser.fusion_modules) == modules
    with pytest.raises(NetworkError, match=r"load before fuse\(\)"):
        network.load_released(state)

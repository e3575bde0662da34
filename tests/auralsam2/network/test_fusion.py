"""The whole fusion module (projections, attention, way back, norms) in both forms, against a reading in loops."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from auralsam2.network.fusion import AudioVisualFusion, FusionForm

WIDTH, INNER = 256, 128


def line(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution as a matrix [out, in] and an offset, in float64."""
    return conv.weight.double().flatten(1), conv.bias.double()  # type: ignore[operator, union-attr]


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def back(x: Tensor, steps: nn.Sequential) -> Tensor:
    """Rows of INNER features to WIDTH: 1x1 convolution and batch norm with its running statistics."""
    matrix, offset = line(steps[0])
    statistics = steps[1]
    y = x @ matrix.T + offset
    y = (y - statistics.running_mean.double()) / (statistics.running_var.double() + statistics.eps).sqrt()
    return y * statistics.weight.double() + statistics.bias.double()


def slowly(module: AudioVisualFusion, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Section 4 of the design, read aloud: visual [T, hw, C], audio [M, C]."""
    num_frames, num_pixels, _ = visual.shape
    matrix, offset = line(module.align_channel)
    tokens = audio @ matrix.T + offset
    pixels = {n: visual @ line(module.get_submodule(f"{n}_frame"))[0].T for n in "qkv"}
    pixels = {n: value + line(module.get_submodule(f"{n}_frame"))[1] for n, value in pixels.items()}  # [T, hw, d]
    sound = {n: tokens @ line(module.get_submodule(f"{n}_audio"))[0].T for n in "qkv"}
    sound = {n: value + line(module.get_submodule(f"{n}_audio"))[1] for n, value in sound.items()}  # [M, d]
    num_rows = num_frames * num_pixels
    if module.form == "paper":
        rows = {n: value.reshape(num_rows, INNER) for n, value in pixels.items()}
        frame = torch.stack([torch.softmax(sound["k"] @ row / INNER**0.5, 0) @ sound["v"] for row in rows["q"]])
        heard = torch.stack([torch.softmax(rows["k"] @ row / INNER**0.5, 0) @ rows["v"] for row in sound["q"]])
        frame = frame.reshape(num_frames, num_pixels, INNER)
    else:
        # One frame after another, in it one channel after another, in it one pixel after another, cut into rows of d.
        flat = {
            n: torch.cat([value[t, :, c] for t in range(num_frames) for c in range(INNER)])
            for n, value in pixels.items()
        }
        rows = {n: torch.stack(list(value.split(INNER))) for n, value in flat.items()}
        mixed = torch.stack([(row @ sound["k"].T) @ sound["v"] / num_rows for row in rows["q"]])  # [N, d]
        # One feature after another, in it one row after another, is read as frames, channels, pixels again.
        spread = torch.cat([mixed[:, e] for e in range(INNER)])
        frame = torch.stack([torch.stack(list(f.split(num_pixels)), dim=1) for f in spread.split(num_pixels * INNER)])
        seen = torch.stack([(row @ rows["k"].T) @ rows["v"] / num_rows for row in sound["q"]])  # [M, d]
        heard = torch.stack(list(torch.cat([seen[:, e] for e in range(INNER)]).split(INNER)))
    return (
        norm(back(frame, module.W_z) + visual, module.norm_layer),
        norm(back(heard, module.W_z2) + tokens, module.norm_layer2),
    )


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize(("num_frames", "side", "num_tokens"), [(3, 16, 3), (4, 14, 29)])
def test_fusion(
    form: FusionForm, num_frames: int, side: int, num_tokens: int, well_scaled: Callable[[nn.Module, int], nn.Module]
) -> None:
    module = AudioVisualFusion(WIDTH, INNER, form)
    well_scaled(module, 0)
    draw = torch.Generator().manual_seed(1)
    visual, audio = (
        torch.randn(num_frames, side**2, WIDTH, generator=draw),
        torch.randn(num_tokens, WIDTH, generator=draw),
    )
    for ours, truth in zip(module(visual, audio, side), slowly(module, visual.double(), audio.double()), strict=True):
        assert ours.shape == truth.shape
        torch.testing.assert_close(ours.double(), truth, rtol=0, atol=2e-5)

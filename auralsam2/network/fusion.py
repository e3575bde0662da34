"""One stage's two-way fusion: project, attend both ways, project back, add, normalise."""

import torch
from torch import Tensor, nn

from kernels import operators
from kernels.fusion.reference import FUSION_FORMS, FusionForm, two_way_paper, two_way_released
from kernels.fusion.weights import FusionWeights

__all__ = ["FUSION_FORMS", "AudioVisualFusion", "FusedAudioVisualFusion", "FusionForm"]


class AudioVisualFusion(nn.Module):
    """The weights carry the released names; `g` and `align_channel_back` are in the files but take no part.

    Sound passes `align_channel` first: queries, keys, values and the residual are all of the aligned tokens.
    """

    def __init__(self, width: int, inner: int, form: FusionForm) -> None:
        super().__init__()
        self.form = form
        self.align_channel = nn.Conv1d(width, width, 1)
        self.align_channel_back = nn.Conv1d(width, inner, 1)
        self.norm_layer = nn.LayerNorm(width)
        self.g = nn.Conv3d(width, inner, 1)
        self.W_z = nn.Sequential(nn.Conv3d(inner, width, 1), nn.BatchNorm3d(width))
        self.W_z2 = nn.Sequential(nn.Conv1d(inner, width, 1), nn.BatchNorm1d(width))
        self.norm_layer2 = nn.LayerNorm(width)
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_frame", nn.Conv3d(width, inner, 1))
            self.add_module(f"{name}_audio", nn.Conv1d(width, inner, 1))

    def forward(self, visual: Tensor, audio: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Fuse visual [T, side * side, C] and audio [M, C] -> the same shapes, each having attended to the other."""
        volume = visual.transpose(1, 2).unflatten(2, (1, side, side))  # [T, C, 1, side, side]
        tokens = self.align_channel(audio[:, :, None])  # [M, C, 1]
        q_v, k_v, v_v = (self.get_submodule(f"{name}_frame")(volume).squeeze(2) for name in "qkv")
        q_a, k_a, v_a = (self.get_submodule(f"{name}_audio")(tokens).squeeze(2) for name in "qkv")
        attend = two_way_released if self.form == "released" else two_way_paper
        frame, sound = attend((q_v, k_v, v_v), (q_a, k_a, v_a))
        frame = self.W_z(frame.unsqueeze(2)) + volume
        sound = self.W_z2(sound.unsqueeze(2)) + tokens
        return self.norm_layer(frame.flatten(2).transpose(1, 2)), self.norm_layer2(sound.squeeze(2))


Affine = tuple[Tensor, Tensor]


def _affine(layer: nn.Module) -> Affine:
    """A 1x1 convolution as matrix [out, in] and bias, in float64."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return weight.detach().double().flatten(1), bias.detach().double()


def _after(outer: Affine, inner: Affine) -> Affine:
    return outer[0] @ inner[0], outer[0] @ inner[1] + outer[1]


def _with_batch_norm(steps: nn.Module) -> Affine:
    """A 1x1 convolution and the batch norm behind it, with its fixed statistics, as one map."""
    matrix, bias = _affine(steps.get_submodule("0"))
    norm = steps.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm3d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return matrix * scale[:, None], (bias - norm.running_mean.double()) * scale + norm.bias.detach().double()


def fold(module: AudioVisualFusion) -> FusionWeights:
    """Fold the module's weights for the fused operator: in float64, returned in the module's own dtype."""
    align = _affine(module.align_channel)
    visual = [_affine(module.get_submodule(f"{name}_frame")) for name in "qkv"]
    sound = [align, *(_after(_affine(module.get_submodule(f"{name}_audio")), align) for name in "qkv")]
    frame_out, sound_out = _with_batch_norm(module.W_z), _with_batch_norm(module.W_z2)
    folded = (
        torch.cat([matrix for matrix, _ in visual]),
        torch.cat([bias for _, bias in visual]),
        torch.cat([matrix for matrix, _ in sound]),
        torch.cat([bias for _, bias in sound]),
        *frame_out,
        module.norm_layer.weight.detach(),
        module.norm_layer.bias.detach(),
        *sound_out,
        module.norm_layer2.weight.detach(),
        module.norm_layer2.bias.detach(),
    )
    dtype = module.norm_layer.weight.dtype
    return FusionWeights(*(weight.to(dtype).contiguous() for weight in folded))


class FusedAudioVisualFusion(nn.Module):
    """The same fusion as one operator, for inference: weights are folded once, when it is made."""

    def __init__(self, module: AudioVisualFusion) -> None:
        super().__init__()
        self.form = module.form
        for name, weight in fold(module)._asdict().items():
            self.register_buffer(name, weight, persistent=False)

    def forward(self, visual: Tensor, audio: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Fuse as `AudioVisualFusion`; no gradient."""
        weights = (self.get_buffer(name) for name in FusionWeights._fields)
        frame, sound = operators.audio_visual_fusion(visual, audio, *weights, self.form)
        return frame, sound

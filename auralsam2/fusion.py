"""One stage's two-way fusion: project, attend both ways, project back, add, normalise."""

from typing import Literal

from torch import Tensor, nn

from kernels.audio_visual_fusion import two_way_paper, two_way_released

FusionForm = Literal["released", "paper"]
FUSION_FORMS: tuple[FusionForm, ...] = ("released", "paper")


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
        """visual [T, side * side, C] and audio [M, C] -> the same shapes, each having attended to the other."""
        volume = visual.transpose(1, 2).unflatten(2, (1, side, side))  # [T, C, 1, side, side]
        tokens = self.align_channel(audio[:, :, None])  # [M, C, 1]
        q_v, k_v, v_v = (self.get_submodule(f"{name}_frame")(volume).squeeze(2) for name in "qkv")
        q_a, k_a, v_a = (self.get_submodule(f"{name}_audio")(tokens).squeeze(2) for name in "qkv")
        attend = two_way_released if self.form == "released" else two_way_paper
        frame, sound = attend((q_v, k_v, v_v), (q_a, k_a, v_a))
        frame = self.W_z(frame.unsqueeze(2)) + volume
        sound = self.W_z2(sound.unsqueeze(2)) + tokens
        return self.norm_layer(frame.flatten(2).transpose(1, 2)), self.norm_layer2(sound.squeeze(2))

"""AuralFuser: three stages that mix the tokens of a clip's sound with SAM2's feature pyramid.

Source: AuralSAM2, supplementary Alg. 1 and Eq. 1, and the released checkpoints' own behaviour.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from auralsam2.network.fusion import AudioVisualFusion, FusionForm
from auralsam2.network.positions import first_position_1d, sine_2d
from auralsam2.network.precision import cast
from auralsam2.network.pvt import Block
from auralsam2.network.vggish import VGGish
from auralsam2.presets import STRIDE, Preset

NUM_STAGES = 3
HeadForm = Literal["convolution", "linear"]


class AuralFeatures(NamedTuple):
    """What the decoder is prompted with, stage 1 to 3."""

    visual: tuple[Tensor, Tensor, Tensor]
    """Each [T, C, S/16, S/16]."""
    audio: tuple[Tensor, Tensor, Tensor]
    """Each [M, C], M = T audio tokens, then the text tokens."""


class ProjectionHead(nn.Module):
    """A contrastive head of the released checkpoints. It serves training only; kept so that the files load whole.

    Args:
        form: "convolution", that of the AVSBench files | "linear", that of the Ref-AVS files.
        convolution, norm: of the first form; for maps or for tokens.
    """

    def __init__(
        self, form: HeadForm, convolution: type[nn.Module], norm: type[nn.Module], width: int, inner: int
    ) -> None:
        super().__init__()
        self.form = form
        self.proj = (
            nn.Sequential(convolution(width, inner, 1), norm(inner), convolution(inner, inner, 1))
            if form == "convolution"
            else nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.LayerNorm(inner), nn.Linear(inner, inner))
        )


class AuralFuser(nn.Module):
    sine: Tensor
    audio_position: Tensor

    def __init__(self, preset: Preset, image_size: int, text: bool, form: FusionForm) -> None:
        super().__init__()
        width = preset.width
        self.side = image_size // STRIDE
        self.width, self.fusion_width = width, preset.fusion_width
        self.vgg = VGGish(preset.vggish_channels, preset.vggish_hidden, preset.vggish_out)
        self.patch_embeds = nn.ModuleList(nn.Conv2d(width, width, patch, stride=patch) for patch in (4, 2, 1))
        self.f_blocks = nn.ModuleList(
            nn.ModuleList(Block(width, preset.fuser_heads) for _ in range(depth)) for depth in preset.fuser_depths
        )
        self.a_blocks = nn.ModuleList(
            nn.ModuleList(Block(width, preset.fuser_heads) for _ in range(preset.audio_depth))
            for _ in range(NUM_STAGES)
        )
        self.fusion_modules = nn.ModuleList(
            AudioVisualFusion(width, preset.fusion_width, form) for _ in range(NUM_STAGES)
        )
        self.smooth_convs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(NUM_STAGES - 1))
        self.train_proj_v1, self.train_proj_a1 = self.new_heads("convolution")
        self.text_proj = (
            nn.Sequential(
                nn.Linear(preset.text_width, preset.text_hidden), nn.GELU(), nn.Linear(preset.text_hidden, width)
            )
            if text
            else None
        )
        self.register_buffer("sine", sine_2d(width, self.side).flatten(1).T, persistent=False)  # [side^2, C]
        self.register_buffer("audio_position", first_position_1d(width), persistent=False)

    def new_heads(self, form: HeadForm) -> tuple[ProjectionHead, ProjectionHead]:
        """Untrained contrastive heads of `form`, for the picture and for the sound, beside this fuser's weights."""
        image = ProjectionHead(form, nn.Conv2d, nn.BatchNorm2d, self.width, self.fusion_width)
        sound = ProjectionHead(form, nn.Conv1d, nn.BatchNorm1d, self.width, self.fusion_width)
        beside = next(self.smooth_convs.parameters())
        return image.to(beside).train(self.training), sound.to(beside).train(self.training)

    def tokens(self, log_mel: Tensor, text: Tensor | None = None) -> Tensor:
        """Encode log_mel [T, 2, 96, 64] and, for Ref-AVS, text [1, L, W] -> [T + L, C]: sound first, then words."""
        sound: Tensor = self.vgg(log_mel)
        if text is None or self.text_proj is None:
            return sound
        return torch.cat([sound, self.text_proj(cast(text[0], sound.dtype))])

    def patches(self, level: int, fpn_map: Tensor) -> Tensor:
        """Embed FPN map `level` (0, 1, 2 at stride 4, 8, 16), [T, C, h, w] -> [T, C, S/16, S/16]."""
        patches: Tensor = self.patch_embeds[level](fpn_map)
        return patches

    def look(self, stage: int, image: Tensor) -> Tensor:
        """Run the visual blocks of a stage, [T, C, S/16, S/16] -> [T, N, C]: those of the first hear nothing yet."""
        visual: Tensor = image.flatten(2).transpose(1, 2) + self.sine
        for block in self.f_blocks[stage].children():
            visual = block(visual, self.side)
        return visual

    def forward(
        self, patches: tuple[Tensor, Tensor, Tensor], tokens: Tensor, first_look: Tensor | None = None
    ) -> AuralFeatures:
        """Run the three stages.

        Args:
            patches: for each stage, the embedded FPN map [T, C, S/16, S/16].
            tokens: [M, C] from `tokens`.
            first_look: `look(0, patches[0])`, where other tokens met the same pictures before.
        """
        visual_out: list[Tensor] = []
        audio_out: list[Tensor] = []
        audio = tokens
        carried: Tensor | None = None
        for stage in range(NUM_STAGES):
            image = patches[stage]
            if carried is not None:
                image = self.smooth_convs[stage - 1](image + carried)
            visual = self.look(stage, image) if stage or first_look is None else first_look
            audio = audio + self.audio_position
            batch = audio[None]
            for block in self.a_blocks[stage].children():
                batch = block(batch)
            visual, audio = self.fusion_modules[stage](visual + self.sine, batch[0] + self.audio_position, self.side)
            carried = visual.transpose(1, 2).unflatten(2, (self.side, self.side))
            visual_out.append(carried)
            audio_out.append(audio)
        v1, v2, v3 = visual_out
        a1, a2, a3 = audio_out
        return AuralFeatures((v1, v2, v3), (a1, a2, a3))

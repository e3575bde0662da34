"""Sound by adapters, as GAVS and SAMA-AVS bring it into SAM: small MLPs whose outputs are added to image features.

Source: AuralSAM2's supplementary material, which puts both methods on SAM2: adapters after the ninth layer of the image
encoder and in the mask decoder's two-way cross-attention, of one width throughout. What it leaves open is ours: an
adapter reads the frame's sound alone and gives one vector for all its pixels; in the decoder it is added to the image
tokens before each two-way block and before the final attention, where AuralSAM2's own features enter too.
"""

from collections.abc import Mapping

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn

from auralsam2.errors import NetworkError
from auralsam2.network.precision import cast
from auralsam2.presets import Preset

WIDTHS: Mapping[str, int] = {"gavs": 128, "sama_avs": 512}
"""Intermediate features of an adapter, by method."""
LAYERS_BEFORE = 9
DECODER_PLACES = 3
"""Before each of the two two-way blocks, and before the final attention."""


def layers_before(preset: Preset) -> int:
    """Tell how many layers of the image encoder stay as they are: nine; of a shallower one than SAM2's, three eighths.

    Nine of Hiera-B+'s 24 layers are three eighths; `compact` has eight layers in all.
    """
    num_layers = sum(preset.stages)
    return LAYERS_BEFORE if num_layers > LAYERS_BEFORE else 3 * num_layers // 8


def width_of(method: str) -> int:
    """Find a method's width. Raises: NetworkError that lists the methods."""
    if method not in WIDTHS:
        raise NetworkError(f"method {method!r} has no adapters; choose one of {', '.join(WIDTHS)}.")
    return WIDTHS[method]


class SoundAdapter(nn.Module):
    """An MLP from a frame's sound to what is added to each of its image features. It begins as nothing: up is zero."""

    def __init__(self, sound: int, hidden: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(sound, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, sound: Tensor) -> Tensor:
        """Map [T, C] -> [T, width]."""
        added: Tensor = self.up(torch.relu(self.down(cast(sound, self.down.weight.dtype))))
        return added


class EncoderAdapters(nn.ModuleDict):
    """One adapter for each layer after the first `layers_before`, under the number of its layer."""

    def __init__(self, preset: Preset, hidden: int, trunk: Hiera) -> None:
        first = layers_before(preset)
        super().__init__(
            {
                str(index): SoundAdapter(preset.width, hidden, block.dim_out)
                for index, block in enumerate(trunk.blocks)
                if index >= first
            }
        )

    def features(self, trunk: Hiera, frames: Tensor, position: Tensor, sound: Tensor) -> list[Tensor]:
        """Compute the outputs of Hiera's four stages as `image_encoder.trunk_features`, with the sound in them.

        Args:
            frames: [T, 3, S, S] float32, normalised.
            position: [1, S/4, S/4, C] of `image_encoder.position_embedding`.
            sound: [T, width], a token for each frame.
        """
        dtype = trunk.patch_embed.proj.weight.dtype
        x = trunk.patch_embed(cast(frames, dtype)) + cast(position, dtype)
        outputs = []
        for index, block in enumerate(trunk.blocks):
            x = block(x)
            if str(index) in self:
                x = x + self[str(index)](sound)[:, None, None]
            if index in trunk.stage_ends:
                outputs.append(x.permute(0, 3, 1, 2))
        return outputs


class DecoderAdapters(nn.ModuleList):
    """The adapters of the mask decoder, in the order in which AuralSAM2's stages enter: the last first."""

    def __init__(self, preset: Preset, hidden: int) -> None:
        super().__init__(SoundAdapter(preset.width, hidden, preset.width) for _ in range(DECODER_PLACES))

    def features(self, sound: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give what is added to the image tokens, three times [T, C, side, side], of sound [T, C]."""
        first, second, third = (adapter(sound)[:, :, None, None].expand(-1, -1, side, side) for adapter in self)
        return first, second, third

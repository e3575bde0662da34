"""Sound by adapters, as GAVS and SAMA-AVS bring it into SAM: small MLPs whose outputs are added to image features.

Source: AuralSAM2's supplementary material, which puts both methods on SAM2: adapters after the ninth layer of the image
encoder and in the mask decoder's two-way cross-attention, of one width throughout. What it leaves open is ours: an
adapter reads each image feature beside its frame's sound; in the decoder its output is added to the image tokens before
each two-way block and before the final attention, where AuralSAM2's own features enter too.
"""

from collections.abc import Mapping

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn

from auralsam2.errors import NetworkError
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.precision import cast
from auralsam2.network.vggish import VGGish
from auralsam2.presets import Preset

WIDTHS: Mapping[str, int] = {"gavs": 128, "sama_avs": 512}
"""Features inside an adapter, by method."""
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
    """An MLP from an image feature and its frame's sound to what is added to that feature. It begins as nothing."""

    def __init__(self, features: int, sound: int, hidden: int) -> None:
        super().__init__()
        self.image, self.sound = nn.Linear(features, hidden), nn.Linear(sound, hidden, bias=False)
        self.up = nn.Linear(hidden, features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, sound: Tensor) -> Tensor:
        """Map features [T, ..., C] and sound [T, C_sound] -> [T, ..., C]."""
        heard: Tensor = self.sound(cast(sound, self.sound.weight.dtype))
        heard = heard.reshape(len(heard), *[1] * (x.ndim - 2), -1)
        added: Tensor = self.up(torch.relu(self.image(x) + heard))
        return added


class SoundAdapters(nn.Module):
    """What stands in the fuser's place: VGGish, and the adapters of one method."""

    def __init__(self, preset: Preset, trunk: Hiera, method: str) -> None:
        super().__init__()
        hidden, first = width_of(method), layers_before(preset)
        self.vgg = VGGish(preset.vggish_channels, preset.vggish_hidden, preset.vggish_out)
        self.encoder = nn.ModuleDict(
            {
                str(index): SoundAdapter(block.dim_out, preset.width, hidden)
                for index, block in enumerate(trunk.blocks)
                if index >= first
            }
        )
        self.decoder = nn.ModuleList(SoundAdapter(preset.width, preset.width, hidden) for _ in range(DECODER_PLACES))

    def after_layer(self, index: int, x: Tensor, sound: Tensor, share: Tensor | None = None) -> Tensor:
        """Add, after a layer of the image encoder, what its adapter says; [T, ..., C] as it came, in any order.

        `share`: [T] float, times which each frame's is added; None: once.
        """
        name = str(index)
        if name not in self.encoder:
            return x
        added: Tensor = self.encoder[name](x, sound)
        if share is not None:
            added = added * cast(share, added.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return x + added

    def forward(self, embedding: Tensor, sound: Tensor) -> AuralFeatures:
        """Compute what enters the mask decoder; its mask tokens stay SAM2's.

        Args:
            embedding: [T, C, S/16, S/16] of the image encoder, with the sound in it already.
            sound: [T, C], a token for each frame.
        """
        image = embedding.permute(0, 2, 3, 1)
        first, second, third = (adapter(image, sound).permute(0, 3, 1, 2) for adapter in self.decoder)
        silent = torch.zeros_like(sound)
        return AuralFeatures((first, second, third), (silent, silent, silent))

"""The stage of the frames, for each way in which sound enters SAM2.

Normalising is inside; the position embedding is a constant; FPN laterals are folded into what reads them. For a CPU the
trunk's tokens lie window by window (`windowed`), and its leading blocks take them in `strips` parts.
"""

import math

import torch
from torch import Tensor, nn

from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import image_encoder

# On a CPU, of hiera's leading blocks and the fuser's MLPs: what one operator gives and the next reads should not leave
# the last cache.
STRIP_BYTES = 16 << 20
BYTES_OF_FLOAT32 = 4


def fold_lateral(lateral: nn.Conv2d, reader: nn.Conv2d) -> nn.Conv2d:
    """Fold the 1x1 `lateral` into `reader`, one equal convolution: weights and biases are multiplied through.

    Exact because the reader does not pad: every tap of its kernel sees the lateral's bias.
    """
    assert lateral.bias is not None
    assert reader.bias is not None
    patch, stride = reader.kernel_size[0], reader.stride[0]
    folded = nn.Conv2d(lateral.in_channels, reader.out_channels, patch, stride=stride)
    assert folded.bias is not None
    inner, kernel = lateral.weight.double()[:, :, 0, 0], reader.weight.double()
    with torch.no_grad():
        folded.weight.copy_(torch.einsum("omhw,mi->oihw", kernel, inner))
        folded.bias.copy_(reader.bias.double() + torch.einsum("omhw,m->o", kernel, lateral.bias.double()))
    return folded


class ImageStage(nn.Module):
    """SAM2's image encoder, and what the mask decoder reads of its two finer levels."""

    position: Tensor

    def __init__(self, model: SoundingSAM2, windowed: bool, strips: int) -> None:
        super().__init__()
        self.windowed, self.strips = windowed, strips
        sam = model.v_model
        self.trunk, self.neck = sam.image_encoder.trunk, sam.image_encoder.neck
        self.register_buffer("position", image_encoder.position_embedding(self.trunk, model.image_size).detach())
        self.high_res_s4 = fold_lateral(self.neck.convs[3].conv, sam.sam_mask_decoder.conv_s0)
        self.high_res_s8 = fold_lateral(self.neck.convs[2].conv, sam.sam_mask_decoder.conv_s1)

    def levels(self, frames: Tensor, after_layer: image_encoder.AfterLayer | None = None) -> list[Tensor]:
        """Compute the trunk's four outputs of frames [T, S, S, 3] uint8."""
        return image_encoder.trunk_features(
            self.trunk,
            image_encoder.normalise(frames),
            self.position,
            windowed=self.windowed,
            strips=self.strips,
            after_layer=after_layer,
        )


class HieraStage(ImageStage):
    """Frames to image features, and to the patches that AuralSAM2's fuser reads of the finer levels."""

    def __init__(self, model: AuralSAM2, windowed: bool = True, strips: int = 1) -> None:
        super().__init__(model, windowed, strips)
        patch_1, patch_2, _ = model.aural_fuser.patch_embeds
        assert isinstance(patch_1, nn.Conv2d)
        assert isinstance(patch_2, nn.Conv2d)
        self.patches_1 = fold_lateral(self.neck.convs[3].conv, patch_1)
        self.patches_2 = fold_lateral(self.neck.convs[2].conv, patch_2)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Encode frames [T, S, S, 3] uint8 -> high_res_s4, high_res_s8, patches_1, patches_2, image_embedding."""
        features = self.levels(frames)
        return (
            self.high_res_s4(features[0]),
            self.high_res_s8(features[1]),
            self.patches_1(features[0]),
            self.patches_2(features[1]),
            image_encoder.image_embedding(self.neck, features),
        )


class AdaptedHieraStage(ImageStage):
    """Frames and sound to image features, by adapters in the trunk."""

    def __init__(self, model: AdaptedSAM2, windowed: bool = True, strips: int = 1) -> None:
        super().__init__(model, windowed, strips)
        self.adapters = model.aural_fuser

    def forward(self, frames: Tensor, tokens: Tensor, adapters: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode frames [T, S, S, 3] uint8 and tokens [T, C] -> high_res_s4, high_res_s8, image_embedding.

        `adapters`: [T], 1 where they add to a frame, 0 where SAM2's own features are wanted; None: they add to all.
        """

        def after_layer(index: int, x: Tensor) -> Tensor:
            return self.adapters.after_layer(index, x, tokens, adapters)

        features = self.levels(frames, after_layer)
        return (
            self.high_res_s4(features[0]),
            self.high_res_s8(features[1]),
            image_encoder.image_embedding(self.neck, features),
        )


class HandsOnTokens(nn.Module):
    """A stage of the frames for a server without Python between the stages: the audio tokens pass through its graph."""

    def __init__(self, hiera: HieraStage | AdaptedHieraStage) -> None:
        super().__init__()
        self.hiera = hiera

    def forward(self, frames: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Encode as the stage does; tokens [T, C] come out as they went in."""
        own = self.hiera(frames, tokens) if isinstance(self.hiera, AdaptedHieraStage) else self.hiera(frames)
        return (*own, tokens.clone())


def strips_for(model: SoundingSAM2) -> int:
    """Choose parts for the trunk's leading blocks on a CPU: a power of two, so that the widest map of a part, inside
    the first blocks' MLP, is at most STRIP_BYTES.
    """
    expanded = 4 * model.preset.embed_dim * (model.image_size // image_encoder.PATCH_STRIDE) ** 2
    return 1 << max(0, math.ceil(math.log2(expanded * BYTES_OF_FLOAT32 / STRIP_BYTES)))

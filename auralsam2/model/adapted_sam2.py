"""GAVS and SAMA-AVS on SAM2: the same frames, sound and answers as `AuralSAM2`, with adapters in place of the fuser.

The image features change with the sound, so that SAM2's own result needs a second encoding: `image_features`.
"""

from typing import Self

import torch
from torch import Tensor, nn

from auralsam2.errors import NetworkError
from auralsam2.model.aural_sam2 import ClipOutput
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.adapters import DecoderAdapters, EncoderAdapters, width_of
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import NUM_BANDS, NUM_HOPS
from auralsam2.network.memory import Positions
from auralsam2.network.positions import rotary_tables, sine_2d
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.network.vggish import VGGish
from auralsam2.presets import STRIDE, Preset, check_image_size, preset


class AdaptedSAM2(nn.Module):
    """SAM2 (`v_model`), VGGish, and the adapters of one method."""

    sine: Tensor
    memory_sine: Tensor
    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, preset: Preset, image_size: int, method: str) -> None:
        super().__init__()
        hidden = width_of(method)
        self.preset, self.image_size, self.method = preset, check_image_size(image_size), method
        self.v_model = SegmentAnything(preset, image_size)
        self.vggish = VGGish(preset.vggish_channels, preset.vggish_hidden, preset.vggish_out)
        self.encoder_adapters = EncoderAdapters(preset, hidden, self.v_model.image_encoder.trunk)
        self.decoder_adapters = DecoderAdapters(preset, hidden)
        self.side = image_size // STRIDE
        cos, sin = rotary_tables(preset.width, self.side)
        for name, table in (
            ("sine", sine_2d(preset.width, self.side).flatten(1).T),
            ("memory_sine", sine_2d(preset.memory_width, self.side).flatten(1).T),
            ("rotary_cos", cos),
            ("rotary_sin", sin),
        ):
            self.register_buffer(name, table.contiguous(), persistent=False)
        self.eval()

    @classmethod
    def from_preset(cls, name: str, method: str, image_size: int | None = None) -> Self:
        """Build a network with untrained weights and adapters that add nothing, in evaluation mode.

        Args:
            name: as for `AuralSAM2.from_preset`.
            method: gavs | sama_avs.
            image_size: px; the preset's own size when None.
        Raises: NetworkError for an unknown name, method or size.
        """
        sizes = preset(name)
        return cls(sizes, sizes.default_image_size if image_size is None else image_size, method)

    def positions(self) -> Positions:
        """Compute the position constants of this image size."""
        return Positions(self.sine, self.memory_sine, self.rotary_cos, self.rotary_sin)

    def forward(self, frames: Tensor, log_mel: Tensor, conditioning_frame: int = 0) -> ClipOutput:
        """Segment the sounding objects of one clip. Arguments as `AuralSAM2.forward`; no text.

        Raises: NetworkError when a shape does not fit.
        """
        num_frames, size = frames.shape[0], self.image_size
        if frames.shape != (num_frames, 3, size, size) or log_mel.shape != (num_frames, 2, NUM_HOPS, NUM_BANDS):
            raise NetworkError(
                f"frames are {list(frames.shape)}, log_mel {list(log_mel.shape)}; this network takes [T, 3, {size},"
                f" {size}] and [T, 2, {NUM_HOPS}, {NUM_BANDS}], T >= 1."
            )
        if not 0 <= conditioning_frame < num_frames:
            raise NetworkError(f"conditioning_frame {conditioning_frame} is outside the clip, 0 to {num_frames - 1}.")
        sound = self.vggish(log_mel)
        image = self.image_features(frames, sound)
        visual = self.decoder_adapters.features(sound, self.side)
        silent = torch.zeros_like(sound)
        aural = AuralFeatures(visual, (silent, silent, silent))
        dense = mask_decoder.dense_positions(self.v_model)
        return ClipOutput(*track(self.v_model, image, aural, conditioning_frame, self.positions(), dense))

    def image_features(self, frames: Tensor, sound: Tensor | None = None) -> ImageFeatures:
        """Compute what the decoder reads of frames [T, 3, S, S]; without `sound` [T, C] as SAM2 itself does."""
        encoder, decoder = self.v_model.image_encoder, self.v_model.sam_mask_decoder
        position = image_encoder.position_embedding(encoder.trunk, self.image_size)
        if sound is None:
            levels = image_encoder.trunk_features(encoder.trunk, frames, position)
        else:
            levels = self.encoder_adapters.features(encoder.trunk, frames, position, sound)
        neck = encoder.neck
        return ImageFeatures(
            decoder.conv_s0(neck.convs[3](levels[0])),
            decoder.conv_s1(neck.convs[2](levels[1])),
            image_encoder.image_embedding(neck, levels),
        )

"""GAVS and SAMA-AVS on SAM2: the same frames, sound and answers as `AuralSAM2`, with adapters in place of the fuser.

The image features change with the sound, so that SAM2's own result needs a second encoding: `image_features`.
"""

from typing import Self

import torch
from torch import Tensor

from auralsam2.errors import NetworkError
from auralsam2.model.sounding_sam2 import ClipOutput, SoundingSAM2
from auralsam2.network.adapters import SoundAdapters
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import NUM_BANDS, NUM_HOPS
from auralsam2.network.tracker import ImageFeatures
from auralsam2.presets import Preset, preset


class AdaptedSAM2(SoundingSAM2):
    """SAM2 (`v_model`), and VGGish with the adapters of one method (`aural_fuser`, as in released files)."""

    aural_fuser: SoundAdapters

    def __init__(self, preset: Preset, image_size: int, method: str) -> None:
        super().__init__(preset, image_size)
        self.method = method
        self.aural_fuser = SoundAdapters(preset, self.v_model.image_encoder.trunk, method)
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

    def forward_with_features(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> tuple[ClipOutput, AuralFeatures]:
        """Return what `forward` does, and what the adapters of the decoder add. Text is refused."""
        num_frames, size = frames.shape[0], self.image_size
        if text is not None:
            raise NetworkError(f"text was given, but {self.method} reads none; build auralsam2 with text=True.")
        if frames.shape != (num_frames, 3, size, size) or log_mel.shape != (num_frames, 2, NUM_HOPS, NUM_BANDS):
            raise NetworkError(
                f"frames are {list(frames.shape)}, log_mel {list(log_mel.shape)}; this network takes [T, 3, {size},"
                f" {size}] and [T, 2, {NUM_HOPS}, {NUM_BANDS}], T >= 1."
            )
        if not 0 <= conditioning_frame < num_frames:
            raise NetworkError(f"conditioning_frame {conditioning_frame} is outside the clip, 0 to {num_frames - 1}.")
        sound = self.aural_fuser.vgg(log_mel)
        image = self.adapted_features(frames, sound)
        aural = self.aural_fuser(image.embedding, sound)
        return self._track(image, aural, conditioning_frame), aural

    def adapted_features(self, frames: Tensor, sound: Tensor) -> ImageFeatures:
        """Compute the image features with the sound in them.

        Args:
            frames: [T, 3, S, S] float32, normalised.
            sound: [T, C], a token for each frame; zeros where there is none: the adapters then add what they add to
                every picture.
        """
        fuser = self.aural_fuser
        return self._image_features(self._pyramid(frames, lambda index, x: fuser.after_layer(index, x, sound)))

    def silent_features(self, frames: Tensor) -> ImageFeatures:
        """Compute what prompts are decoded from where no sound is heard: adapted features of a sound of zeros."""
        return self.adapted_features(frames, torch.zeros(len(frames), self.preset.width, device=frames.device))

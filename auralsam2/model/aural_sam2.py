"""AuralSAM2: frames and sound of one clip in, masks of the sounding objects out."""

from collections.abc import Mapping
from typing import Self

from torch import Tensor

from auralsam2.errors import NetworkError
from auralsam2.model.sounding_sam2 import ClipOutput, SoundingSAM2
from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.network.fusion import FUSION_FORMS, AudioVisualFusion, FusedAudioVisualFusion, FusionForm
from auralsam2.network.log_mel import NUM_BANDS, NUM_HOPS
from auralsam2.network.pvt import Mlp
from auralsam2.presets import Preset, preset
from auralsam2_client.contract import AURALSAM2


class AuralSAM2(SoundingSAM2):
    """The network in the two parts of a released checkpoint: `v_model` (SAM2) and `aural_fuser` (the rest)."""

    aural_fuser: AuralFuser

    def __init__(self, preset: Preset, image_size: int, text: bool = False, fusion: FusionForm = "released") -> None:
        super().__init__(preset, image_size)
        if fusion not in FUSION_FORMS:
            raise NetworkError(f"fusion form {fusion!r} is unknown; choose one of {', '.join(FUSION_FORMS)}.")
        self.method = AURALSAM2
        self.aural_fuser = AuralFuser(preset, image_size, text, fusion)
        self.eval()

    @classmethod
    def from_preset(
        cls, name: str, image_size: int | None = None, text: bool = False, fusion: FusionForm = "released"
    ) -> Self:
        """Build a network with untrained weights, in evaluation mode.

        Args:
            name: hiera_tiny | hiera_small | hiera_base_plus | hiera_large | compact.
            image_size: 1024, 512, 256 or 224 px; the preset's own size when None.
            text: add the text projection of the Ref-AVS form.
            fusion: "released", what trained weights need | "paper", Eq. 1.
        Raises: NetworkError for an unknown name, size or form.
        """
        sizes = preset(name)
        return cls(sizes, sizes.default_image_size if image_size is None else image_size, text, fusion)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Load weights as `SoundingSAM2` does. Raises: NetworkError once the network is fused."""
        if self.fused:
            raise NetworkError("this network runs the fused operators, its weights are folded; load before fuse().")
        super().load_released(state)

    @property
    def reads_text(self) -> bool:
        """Whether words may come beside the sound."""
        return self.aural_fuser.text_proj is not None

    def fuse(self) -> Self:
        """Switch to the fused operators of `kernels`, for inference: there is no gradient and no way back.

        The weights of the two-way fusion are folded as they are now. On a CPU the numbers are those of the plain
        network up to rounding and the fusion takes a tenth of the arithmetic; on CUDA the Triton kernels run.
        """
        if not self.fused:
            modules = self.aural_fuser.fusion_modules
            for stage, module in enumerate(modules):
                assert isinstance(module, AudioVisualFusion)
                modules[stage] = FusedAudioVisualFusion(module)
            for part in self.aural_fuser.modules():
                if isinstance(part, Mlp):
                    part.fused = True
            super().fuse()
        return self

    def forward_with_features(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> tuple[ClipOutput, AuralFeatures]:
        """Return what `forward` does, and what prompted the decoder: contrastive training reads both."""
        self._check(frames, log_mel, text, conditioning_frame)
        fuser = self.aural_fuser
        fpn = self._pyramid(frames)
        aural = fuser(
            (fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2])), fuser.tokens(log_mel, text)
        )
        return self._track(self._image_features(fpn), aural, conditioning_frame), aural

    def _check(self, frames: Tensor, log_mel: Tensor, text: Tensor | None, conditioning_frame: int) -> None:
        num_frames, size = frames.shape[0], self.image_size
        if frames.shape != (num_frames, 3, size, size) or num_frames < 1:
            raise NetworkError(f"frames are {list(frames.shape)}; this network takes [T, 3, {size}, {size}], T >= 1.")
        if text is not None and self.aural_fuser.text_proj is None:
            raise NetworkError("text was given, but this network has no text projection; build it with text=True.")
        if text is not None and (text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != self.preset.text_width):
            raise NetworkError(f"text is {list(text.shape)}; it must be [1, L, {self.preset.text_width}].")
        num_examples = num_frames if text is None else max(log_mel.shape[0], 1, num_frames - text.shape[1])
        if log_mel.shape != (num_examples, 2, NUM_HOPS, NUM_BANDS):
            raise NetworkError(
                f"log_mel is {list(log_mel.shape)}; {num_frames} frames need [{num_frames}, 2, {NUM_HOPS}, {NUM_BANDS}]"
                ": one example a frame and channel, the last repeated where sound is missing."
            )
        if not 0 <= conditioning_frame < num_frames:
            raise NetworkError(f"conditioning_frame {conditioning_frame} is outside the clip, 0 to {num_frames - 1}.")

"""What all methods that let SAM2 hear have in common: SAM2 itself, VGGish, and one clip in, its masks out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from auralsam2 import checkpoints
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.adapters import SoundAdapters
from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.network.memory import Positions
from auralsam2.network.positions import rotary_tables, sine_2d
from auralsam2.network.readout import ReadOut, select
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.presets import STRIDE, Preset, check_image_size
from auralsam2.prompted.prompted_tracker import PromptedClip, track_prompts
from auralsam2.prompted.prompts import FramePrompt


@dataclass(frozen=True)
class ClipOutput:
    """What the network says about one clip."""

    low_res_logits: Tensor
    """[T, 3, S/4, S/4] float32, three candidates a frame; mask = logit > 0 after bilinear enlarging."""
    iou: Tensor
    """[T, 3] float32, predicted IoU of each candidate."""
    object_score: Tensor
    """[T, 1] float32 logit: is any sounding object in the frame?"""
    object_pointer: Tensor
    """[T, C] float32."""

    def select(self, read_out: ReadOut = "iou_occlusion") -> Tensor:
        """Choose one mask a frame, [T, S/4, S/4] float32 logits. Raises NetworkError for an unknown read-out."""
        return select(self.low_res_logits, self.iou, self.object_score, read_out)


class SoundingSAM2(nn.Module):
    """A network in the two parts of a released checkpoint: `v_model` (SAM2), and what brings the sound into it."""

    v_model: SegmentAnything
    aural_fuser: AuralFuser | SoundAdapters
    """VGGish and what follows it, under the name that released checkpoints give it."""
    method: str
    """auralsam2 | gavs | sama_avs."""
    sine: Tensor
    memory_sine: Tensor
    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, preset: Preset, image_size: int) -> None:
        super().__init__()
        self.preset = preset
        self.image_size = check_image_size(image_size)
        self.v_model = SegmentAnything(preset, image_size)
        self.side = image_size // STRIDE
        cos, sin = rotary_tables(preset.width, self.side)
        for name, table in (
            ("sine", sine_2d(preset.width, self.side).flatten(1).T),
            ("memory_sine", sine_2d(preset.memory_width, self.side).flatten(1).T),
            ("rotary_cos", cos),
            ("rotary_sin", sin),
        ):
            self.register_buffer(name, table.contiguous(), persistent=False)

    @property
    def reads_text(self) -> bool:
        """Whether words may come beside the sound."""
        return False

    @abstractmethod
    def forward_with_features(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> tuple[ClipOutput, AuralFeatures]:
        """Return what `forward` does, and what prompted the decoder: contrastive training reads both."""

    def forward(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> ClipOutput:
        """Segment the sounding objects of one clip.

        Args:
            frames: [T, 3, S, S] float32, normalised by the ImageNet mean and standard deviation.
            log_mel: [T, 2, 96, 64] float32, one VGGish example a frame and channel. With text the count may differ from
                T: frame t hears the t-th of sound and words together, as released.
            text: [1, L, 768] float32 DistilRoBERTa states (Ref-AVS), only where the network was built with text.
            conditioning_frame: decoded first, read by all; 0 for AVSBench, T // 2 for Ref-AVS.
        Raises: NetworkError when a shape does not fit.
        """
        return self.forward_with_features(frames, log_mel, text, conditioning_frame)[0]

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Load weights under released names, of the whole network or of the fuser (with VGGish) alone.

        Raises: CheckpointError that names every missing, unexpected or misshapen key. Nothing is loaded then.
        """
        checkpoints.load_into(self, state)

    @property
    def fused(self) -> bool:
        """Whether `fuse` was called."""
        return self.v_model.fused

    def fuse(self) -> Self:
        """Switch to the fused operators of `kernels`, for inference: there is no gradient and no way back."""
        self.v_model.fused = True
        return self

    def positions(self) -> Positions:
        """Compute the position constants of this image size."""
        return Positions(self.sine, self.memory_sine, self.rotary_cos, self.rotary_sin)

    def image_features(self, frames: Tensor) -> ImageFeatures:
        """Compute what `track_prompts` decodes, SAM2's own. frames: [T, 3, S, S] float32, normalised."""
        return self._image_features(self._pyramid(frames))

    def track_prompts(self, image: ImageFeatures, prompts: Sequence[FramePrompt]) -> PromptedClip:
        """Segment what points, boxes or masks point at, without sound; see `prompted.prompted_tracker`.

        Raises: NetworkError when a prompt says nothing or does not fit the clip.
        """
        dense = mask_decoder.dense_positions(self.v_model)
        return track_prompts(self.v_model, image, prompts, self.positions(), dense)

    def _pyramid(
        self, frames: Tensor, after_layer: image_encoder.AfterLayer | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        position = image_encoder.position_embedding(self.v_model.image_encoder.trunk, self.image_size)
        return image_encoder.pyramid(self.v_model, frames, position, after_layer)

    def _image_features(self, fpn: tuple[Tensor, Tensor, Tensor]) -> ImageFeatures:
        decoder = self.v_model.sam_mask_decoder
        return ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])

    def _track(self, image: ImageFeatures, aural: AuralFeatures, conditioning_frame: int) -> ClipOutput:
        dense = mask_decoder.dense_positions(self.v_model)
        return ClipOutput(*track(self.v_model, image, aural, conditioning_frame, self.positions(), dense))

"""AuralSAM2: frames and sound of one clip in, masks of the sounding objects out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from auralsam2 import checkpoints
from auralsam2.errors import NetworkError
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.network.fusion import FUSION_FORMS, AudioVisualFusion, FusedAudioVisualFusion, FusionForm
from auralsam2.network.log_mel import NUM_BANDS, NUM_HOPS
from auralsam2.network.memory import Positions
from auralsam2.network.positions import rotary_tables, sine_2d
from auralsam2.network.pvt import Mlp
from auralsam2.network.readout import ReadOut, select
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.presets import Preset, check_image_size, preset
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


class AuralSAM2(nn.Module):
    """The network in the two parts of a released checkpoint: `v_model` (SAM2) and `aural_fuser` (the rest)."""

    sine: Tensor
    memory_sine: Tensor
    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, preset: Preset, image_size: int, text: bool = False, fusion: FusionForm = "released") -> None:
        super().__init__()
        if fusion not in FUSION_FORMS:
            raise NetworkError(f"fusion form {fusion!r} is unknown; choose one of {', '.join(FUSION_FORMS)}.")
        self.preset = preset
        self.image_size = check_image_size(image_size)
        self.v_model = SegmentAnything(preset, image_size)
        self.aural_fuser = AuralFuser(preset, image_size, text, fusion)
        side = self.aural_fuser.side
        cos, sin = rotary_tables(preset.width, side)
        for name, table in (
            ("sine", sine_2d(preset.width, side).flatten(1).T),
            ("memory_sine", sine_2d(preset.memory_width, side).flatten(1).T),
            ("rotary_cos", cos),
            ("rotary_sin", sin),
        ):
            self.register_buffer(name, table.contiguous(), persistent=False)
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
        """Load weights under released names, of the whole network or of the fuser (with VGGish) alone.

        Raises: CheckpointError that names every missing, unexpected or misshapen key. Nothing is loaded then.
        """
        if self.fused:
            raise NetworkError("this network runs the fused operators, its weights are folded; load before fuse().")
        checkpoints.load_into(self, state)

    @property
    def fused(self) -> bool:
        """Whether `fuse` was called."""
        return self.v_model.fused

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
            self.v_model.fused = True
        return self

    def positions(self) -> Positions:
        """Compute the position constants of this image size."""
        return Positions(self.sine, self.memory_sine, self.rotary_cos, self.rotary_sin)

    def forward(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> ClipOutput:
        """Segment the sounding objects of one clip.

        Args:
            frames: [T, 3, S, S] float32, normalised by the ImageNet mean and standard deviation.
            log_mel: [T, 2, 96, 64] float32, one VGGish example a frame and channel. With text the count may differ from
                T: frame t hears the t-th of sound and words together, as released.
            text: [1, L, W] float32 states of words, W the preset's `text_width`: 768 of DistilRoBERTa for hiera_*.
                Only where the network was built with text.
            conditioning_frame: decoded first, read by all; 0 for AVSBench, T // 2 for Ref-AVS.
        Raises: NetworkError when a shape does not fit.
        """
        return self.forward_with_features(frames, log_mel, text, conditioning_frame)[0]

    def forward_with_features(
        self, frames: Tensor, log_mel: Tensor, text: Tensor | None = None, conditioning_frame: int = 0
    ) -> tuple[ClipOutput, AuralFeatures]:
        """Return what `forward` does, and what prompted the decoder: contrastive training reads both."""
        self._check(frames, log_mel, text, conditioning_frame)
        sam, fuser = self.v_model, self.aural_fuser
        fpn = self._pyramid(frames)
        aural = fuser(
            (fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2])), fuser.tokens(log_mel, text)
        )
        image, dense = self._image_features(fpn), mask_decoder.dense_positions(sam)
        return ClipOutput(*track(sam, image, aural, conditioning_frame, self.positions(), dense)), aural

    def _pyramid(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        position = image_encoder.position_embedding(self.v_model.image_encoder.trunk, self.image_size)
        return image_encoder.pyramid(self.v_model, frames, position)

    def _image_features(self, fpn: tuple[Tensor, Tensor, Tensor]) -> ImageFeatures:
        decoder = self.v_model.sam_mask_decoder
        return ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])

    def image_features(self, frames: Tensor) -> ImageFeatures:
        """Compute what `track_prompts` decodes. frames: [T, 3, S, S] float32, normalised."""
        return self._image_features(self._pyramid(frames))

    def track_prompts(self, image: ImageFeatures, prompts: Sequence[FramePrompt]) -> PromptedClip:
        """Segment what points, boxes or masks point at, without sound; see `prompted.prompted_tracker`.

        Raises: NetworkError when a prompt says nothing or does not fit the clip.
        """
        dense = mask_decoder.dense_positions(self.v_model)
        return track_prompts(self.v_model, image, prompts, self.positions(), dense)

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

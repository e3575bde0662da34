"""The network in the steps of the published implementation: what every saving is compared with, in result and in cost.

Same modules, same weights, same masks as `AuralSAM2`, without its savings: all FPN levels exist, memory is read with
complex rotary positions and values projected to full width before the attention (the sam2 package's own module), the
memory encoder runs on every frame, and the fusion multiplies its projections out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auralsam2.errors import NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import ClipOutput, SoundingSAM2
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import MemoryReading, Positions
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.prompted.prompted_tracker import PromptedClip, track_prompts
from auralsam2.prompted.prompts import FramePrompt


def read_memory(sam: SegmentAnything, image: Tensor, memory: MemoryReading, positions: Positions) -> Tensor:
    """Attend as `network.memory.attend`, by the sam2 package's memory attention -> image tokens [N, C]."""
    read: Tensor = sam.memory_attention(
        curr=image[:, None],
        curr_pos=positions.image[:, None],
        memory=memory.tokens[:, None],
        memory_pos=(memory.placed - memory.tokens)[:, None],
        num_obj_ptr_tokens=memory.num_pointer_tokens,
    )
    return read[:, 0]


@dataclass(frozen=True)
class Published:
    """One network, stage by stage, on the device that it lies on when this is made.

    Raises: NetworkError for a network that was fused already.
    """

    model: SoundingSAM2
    log_mel: LogMel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.model.fused:
            raise NetworkError("this network runs the fused operators; the published form needs it before fuse().")
        object.__setattr__(self, "log_mel", LogMel().to(self.model.sine.device))

    def stages(self, frames: Tensor, audio: Tensor, conditioning_frame: int = 0) -> Iterator[ClipOutput | None]:
        """Run one clip, a step of the iterator for each of STAGE_NAMES; the last gives the answer. So each can be
        timed.

        Args:
            frames: [T, S, S, 3] uint8 RGB; audio: [T, 15600, 2] float32 in [-1, 1]; both on the network's device.
        """
        model = self.model
        found: tuple[ImageFeatures, AuralFeatures] | None = None
        for step in self._adapted(frames, audio) if isinstance(model, AdaptedSAM2) else self._fused(frames, audio):
            found = step
            yield None
        assert found is not None
        image, aural = found
        dense = mask_decoder.dense_positions(model.v_model)
        yield ClipOutput(
            *track(
                model.v_model,
                image,
                aural,
                conditioning_frame,
                model.positions(),
                dense,
                read=read_memory,
                remember_last=True,
            )
        )

    def _fused(self, frames: Tensor, audio: Tensor) -> Iterator[tuple[ImageFeatures, AuralFeatures] | None]:
        """The first three stages of AuralSAM2."""
        model = self.model
        assert isinstance(model, AuralSAM2)
        fuser, decoder = model.aural_fuser, model.v_model.sam_mask_decoder
        tokens = fuser.tokens(self.log_mel(audio))
        yield None
        position = image_encoder.position_embedding(model.v_model.image_encoder.trunk, model.image_size)
        fpn = image_encoder.pyramid(model.v_model, image_encoder.normalise(frames), position)
        image = ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])
        yield None
        patches = tuple(fuser.patches(level, fpn[level]) for level in range(3))
        yield image, fuser(patches, tokens)

    def _adapted(self, frames: Tensor, audio: Tensor) -> Iterator[tuple[ImageFeatures, AuralFeatures] | None]:
        """The first three stages where adapters bring the sound in."""
        model = self.model
        assert isinstance(model, AdaptedSAM2)
        sound = model.aural_fuser.vgg(self.log_mel(audio))
        yield None
        image = model.adapted_features(image_encoder.normalise(frames), sound)
        yield None
        yield image, model.aural_fuser(image.embedding, sound)

    def __call__(self, frames: Tensor, audio: Tensor, conditioning_frame: int = 0) -> ClipOutput:
        """One clip. Arguments as `stages`."""
        with torch.inference_mode():
            *_, answer = self.stages(frames, audio, conditioning_frame)
        assert answer is not None
        return answer

    def by_prompts(self, frames: Tensor, prompts: Sequence[FramePrompt], *, beside_sound: bool = False) -> PromptedClip:
        """Segment what prompts point at in one clip, from an encoding of its own.

        Args:
            frames: as for `stages`.
            prompts: as for `SoundingSAM2.track_prompts`.
            beside_sound: whether a result by sound stands beside it. With adapters SAM2's own features are decoded
                then, and otherwise those that heard nothing.
        """
        model = self.model
        with torch.inference_mode():
            normalised = image_encoder.normalise(frames)
            if isinstance(model, AdaptedSAM2) and not beside_sound:
                image = model.silent_features(normalised)
            else:
                image = model.image_features(normalised)
            dense = mask_decoder.dense_positions(model.v_model)
            return track_prompts(model.v_model, image, prompts, model.positions(), dense, read=read_memory)

    def by_both(self, frames: Tensor, audio: Tensor, prompts: Sequence[FramePrompt]) -> tuple[ClipOutput, PromptedClip]:
        """Segment by sound and by prompts, the two results of the paper's rows "w/ SAM2".

        AuralSAM2 shares one encoding between them; adapters change the image features and need two.
        """
        model = self.model
        if isinstance(model, AdaptedSAM2):
            return self(frames, audio), self.by_prompts(frames, prompts, beside_sound=True)
        with torch.inference_mode():
            *_, found = self._fused(frames, audio)
            assert found is not None
            image, aural = found
            dense, positions = mask_decoder.dense_positions(model.v_model), model.positions()
            heard = track(model.v_model, image, aural, 0, positions, dense, read=read_memory, remember_last=True)
            return ClipOutput(*heard), track_prompts(model.v_model, image, prompts, positions, dense, read=read_memory)

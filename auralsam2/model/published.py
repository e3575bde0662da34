"""The network in the steps of the published implementation: what every saving is compared with, in result and in cost.

Same modules, same weights, same masks as `AuralSAM2`, without its savings: all FPN levels exist, memory is read with
complex rotary positions and values projected to full width before the attention (the sam2 package's own module), the
memory encoder runs on every frame, and the fusion multiplies its projections out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auralsam2.errors import NetworkError
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import MemoryReading, Positions
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures, track


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

    model: AuralSAM2
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
        model, sam, fuser = self.model, self.model.v_model, self.model.aural_fuser
        tokens = fuser.tokens(self.log_mel(audio))
        yield None
        position = image_encoder.position_embedding(sam.image_encoder.trunk, model.image_size)
        fpn = image_encoder.pyramid(sam, image_encoder.normalise(frames), position)
        decoder = sam.sam_mask_decoder
        image = ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])
        yield None
        patches = tuple(fuser.patches(level, fpn[level]) for level in range(3))
        aural: AuralFeatures = fuser(patches, tokens)
        yield None
        dense = mask_decoder.dense_positions(sam)
        yield ClipOutput(
            *track(
                sam,
                image,
                aural,
                conditioning_frame,
                model.positions(),
                dense,
                read=read_memory,
                remember_last=True,
            )
        )

    def __call__(self, frames: Tensor, audio: Tensor, conditioning_frame: int = 0) -> ClipOutput:
        """One clip. Arguments as `stages`."""
        with torch.inference_mode():
            *_, answer = self.stages(frames, audio, conditioning_frame)
        assert answer is not None
        return answer

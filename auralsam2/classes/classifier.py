"""A network with a class head: frames and sound in, masks with a class for each of their pixels out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from auralsam2.classes.class_head import ClassHead
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.readout import ReadOut
from auralsam2.network.tracker import ImageFeatures, track


class Perceived(NamedTuple):
    """What the network makes of one clip, and what a class head reads of it."""

    image: ImageFeatures
    aural: AuralFeatures
    output: ClipOutput

    def head_inputs(self, mask_logits: Tensor) -> tuple[Tensor, ...]:
        """List the arguments of `ClassHead.forward`, with masks [T, S/4, S/4] of its frames."""
        num_frames = mask_logits.shape[0]
        sounds = (audio[:num_frames] for audio in self.aural.audio)
        return (*self.image, self.aural.visual[2], *sounds, mask_logits)


class ClassifiedClip(NamedTuple):
    """What sounds, where it is, and what it is."""

    mask_logits: Tensor
    """[T, S/4, S/4] float32."""
    class_map: Tensor
    """[T, S/4, S/4] uint8: 0 background, 1 to K inside the mask."""
    class_scores: Tensor
    """[T, K] float32 in [0, 1]."""


def perceive(model: AuralSAM2, frames: Tensor, log_mel: Tensor, conditioning_frame: int = 0) -> Perceived:
    """Run the network and keep what its parts gave; arguments as `AuralSAM2.forward`, without text."""
    sam, fuser, decoder = model.v_model, model.aural_fuser, model.v_model.sam_mask_decoder
    position = image_encoder.position_embedding(sam.image_encoder.trunk, model.image_size)
    fpn = image_encoder.pyramid(sam, frames, position)
    aural = fuser((fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2])), fuser.tokens(log_mel))
    image = ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])
    dense = mask_decoder.dense_positions(sam)
    return Perceived(image, aural, ClipOutput(*track(sam, image, aural, conditioning_frame, model.positions(), dense)))


class Classifier:
    """A trained network and the class head that was trained on its masks."""

    def __init__(self, model: AuralSAM2, head: ClassHead, names: Sequence[str]) -> None:
        self.model, self.head, self.names = model, head, tuple(names)

    def classify(
        self,
        frames: Tensor,
        log_mel: Tensor,
        conditioning_frame: int = 0,
        read_out: ReadOut = "iou_occlusion",
        heard_by_head: Tensor | None = None,
    ) -> ClassifiedClip:
        """Segment the sounding things of one clip and name them.

        Args:
            frames, log_mel, conditioning_frame: as `AuralSAM2.forward` takes them.
            read_out: of the masks.
            heard_by_head: other log-mel examples, for the head alone: what it makes of another sound.
        """
        found = perceive(self.model, frames, log_mel, conditioning_frame)
        masks = found.output.select(read_out)
        read = found
        if heard_by_head is not None:
            read = perceive(self.model, frames, heard_by_head, conditioning_frame)
        return ClassifiedClip(masks, *self.head(*read.head_inputs(masks)))


def enlarge_labels(class_map: Tensor, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge labels to the frames' size: the mask as ever, each of its pixels with the class that weighs most there.

    An enlarged logit is above 0 only where one of the pixels that it is mixed of is, and that one has a class, so every
    pixel of the enlarged mask has one too.

    Args:
        class_map, mask_logits: of a `ClassifiedClip`.
        size: rows and columns.
    Returns: [T, *size] uint8.
    """
    inside = F.interpolate(mask_logits[None], size=size, mode="bilinear", align_corners=False)[0] > 0
    labels, heaviest = torch.zeros(inside.shape, dtype=torch.uint8), torch.zeros(inside.shape)
    for label in class_map.unique().tolist():
        if label:
            of_class = (class_map == label).float()[None]
            weight = F.interpolate(of_class, size=size, mode="bilinear", align_corners=False)[0]
            labels = torch.where(weight > heaviest, torch.tensor(label, dtype=torch.uint8), labels)
            heaviest = torch.maximum(weight, heaviest)
    return torch.where(inside, labels, torch.tensor(0, dtype=torch.uint8))

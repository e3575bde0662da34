"""The class head as a stage beside the decoder: a clip's features and its masks, whatever made them, to names."""

from auralsam2.classes.class_head import ClassHead
from auralsam2.presets import Preset
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import CLASS_HEAD, CLASS_RESULTS, IMAGE_FEATURES, Sizes, tensors

READS = (*IMAGE_FEATURES, "VISUAL_3", "SOUND_1", "SOUND_2", "SOUND_3", "MASK_LOGITS")
"""In the order of `ClassHead.forward`."""


def class_stage(head: ClassHead, preset: Preset, num_frames: int, image_size: int) -> Stage:
    """Make the stage of a head for clips of `num_frames` frames."""
    sizes = Sizes(num_frames, image_size, preset.width, head.num_classes)
    return Stage(CLASS_HEAD, head, tensors(READS, sizes), tensors(CLASS_RESULTS, sizes), num_frames)

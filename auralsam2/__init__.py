"""What is computed: AuralSAM2 in plain PyTorch, its presets, checkpoints and audio front end."""

from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.presets import PRESETS, Preset

__all__ = ["PRESETS", "AuralSAM2", "ClipOutput", "Preset"]

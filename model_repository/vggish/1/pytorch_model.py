"""AUDIO [T, 15600, 2] float32, 16 kHz stereo -> AUDIO_TOKENS [T, C] float32: log-mel, then VGGish."""

from stage_runtime.pytorch.stage_models import CardSoundModel


class TritonPythonModel(CardSoundModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""

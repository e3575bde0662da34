"""AUDIO [T, 15600, 2] float32, 16 kHz stereo -> AUDIO_TOKENS [T, C] float32: log-mel, then VGGish."""

from stage_runtime.adapter import StageModel


class TritonPythonModel(StageModel):
    """Stateless, CPU; see stage_runtime."""

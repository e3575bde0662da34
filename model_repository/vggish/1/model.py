"""AUDIO [T, 15600, 2] float32, 16 kHz stereo -> AUDIO_TOKENS [T, C] float32: log-mel, then VGGish."""

from stage_runtime.adapter import SoundModel


class TritonPythonModel(SoundModel):
    """Stateless, CPU; bad prompts end here, before any work; see stage_runtime."""

"""Patches of the pyramid and AUDIO_TOKENS -> three pairs of audio-visual features."""

from stage_runtime.adapter import SoundModel


class TritonPythonModel(SoundModel):
    """Stateless, CPU; see stage_runtime."""

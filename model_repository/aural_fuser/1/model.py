"""Patches of the pyramid and AUDIO_TOKENS -> three pairs of audio-visual features."""

from stage_runtime.adapter import StageModel


class TritonPythonModel(StageModel):
    """Stateless, CPU; see stage_runtime."""

"""Patches of the pyramid and AUDIO_TOKENS -> three pairs of audio-visual features."""

from stage_runtime.text.model import FuserModel


class TritonPythonModel(FuserModel):
    """Stateless, CPU; see stage_runtime."""

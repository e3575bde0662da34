"""Patches of the pyramid and AUDIO_TOKENS -> three pairs of audio-visual features."""

from stage_runtime.pytorch.stage_models import CardSoundModel


class TritonPythonModel(CardSoundModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""

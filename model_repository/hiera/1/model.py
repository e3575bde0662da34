"""FRAMES [T, S, S, 3] uint8 RGB -> image features; AUDIO_TOKENS are handed on, so that the chain stays serial."""

from stage_runtime.adapter import StageModel


class TritonPythonModel(StageModel):
    """Stateless, CPU; see stage_runtime."""

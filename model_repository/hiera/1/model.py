"""FRAMES [T, S, S, 3] uint8, or files -> image features; AUDIO_TOKENS are handed on: the chain stays serial."""

from stage_runtime.adapter import ImageModel


class TritonPythonModel(ImageModel):
    """Stateless, CPU; see stage_runtime."""

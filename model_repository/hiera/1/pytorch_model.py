"""FRAMES [T, S, S, 3] uint8, or files -> image features; AUDIO_TOKENS are handed on: the chain stays serial."""

from stage_runtime.pytorch.stage_models import CardImageModel


class TritonPythonModel(CardImageModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""

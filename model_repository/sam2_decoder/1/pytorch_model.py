"""Image features and audio-visual features, or prompts, or both -> masks of all frames."""

from stage_runtime.pytorch.stage_models import CardDecoderModel


class TritonPythonModel(CardDecoderModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""

"""Image features and audio-visual features, or prompts, or both -> masks of all frames."""

from stage_runtime.adapter import DecoderModel


class TritonPythonModel(DecoderModel):
    """Stateless, CPU; see stage_runtime."""

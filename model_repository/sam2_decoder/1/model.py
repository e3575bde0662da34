"""Image features and audio-visual features -> masks, by the whole tracking loop in one graph."""

from stage_runtime.adapter import StageModel


class TritonPythonModel(StageModel):
    """Stateless, CPU; see stage_runtime."""

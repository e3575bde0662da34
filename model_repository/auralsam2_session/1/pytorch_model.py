"""Interactive sessions: FRAMES and AUDIO once, then prompts only, answered from the features that were kept."""

from stage_runtime.pytorch.session_model import CardSessionModel


class TritonPythonModel(CardSessionModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""

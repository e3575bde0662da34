"""FRAMES and AUDIO, and prompts -> masks of all frames; image features for a session."""

from stage_runtime.pytorch.network_model import NetworkModel


class TritonPythonModel(NetworkModel):
    """Computes in PyTorch; see stage_runtime/pytorch."""
